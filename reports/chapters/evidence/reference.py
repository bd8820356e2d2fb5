"""What others published about the same question, beside the run and never compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from messages import marked, tell
from reports.page.blocks import Prose, Section, Table, head
from reports.text import Value, duration

NOT_COMPARED = marked(
    "The comparison that this project grew from printed these figures. They come from other hardware, other versions "
    "and another network (201 million parameters), and no figure of this run is compared with them; {remark}."
)


@dataclass(frozen=True)
class Published:
    """One published figure of both frameworks; with `calls` it is a time of so many network calls."""

    name: str
    pytorch: str
    jittor: str
    calls: int = 0


# Published by the seed comparison (one RTX 3090, CUDA 11.8, jittor 1.3.9, torch 2.5.1, batch 128): the only figures in
# a report that are not read from its journal, and labelled as such.
SAMPLING_TIMES = (
    Published(marked("sampling 128 images, 50 DDIM steps"), "5.48", "4.64", 50),
    Published(marked("sampling 128 images, 250 DDIM steps"), "27.86", "27.55", 250),
    Published(marked("sampling 128 images, 1000 DDIM steps"), "111.81", "107.32", 1000),
    Published(marked("sampling 128 images, DDPM"), "111.75", "101.85", 1000),
)
EVERYTHING = (
    Published(marked("training epoch, 391 steps"), "139.26 s", "142.43 s"),
    *SAMPLING_TIMES,
    Published(marked("FID of 1000 images, 50 / 250 / 1000 DDIM / DDPM"), "76.43 / 69.97 / 67.66 / 70.17",
              "80.18 / 72.93 / 71.81 / 74.27"),
    Published(marked("final training loss"), marked("about 0.030"), marked("about 0.030")),
)  # fmt: skip


def section(figures: Sequence[Published], remark: str) -> Section:
    """The published figures that are about what a run measures, and what they are worth."""
    rows = tuple(
        (Value(tell("published: {name}", name=tell(one.name))),
         shown(one.pytorch, one.calls), shown(one.jittor, one.calls))
        for one in figures
    )  # fmt: skip
    table = Table(
        tell("Published elsewhere, on other hardware: one RTX 3090, CUDA 11.8, PyTorch 2.5.1, Jittor 1.3.9, batch 128"),
        head(tell("figure"), "PyTorch 2.5.1", "Jittor 1.3.9"),
        rows,
    )
    return Section("reference", tell("Reference: published elsewhere"), (
        Prose(tell(NOT_COMPARED, remark=tell(remark))), table))  # fmt: skip


def shown(figure: str, calls: int) -> Value:
    """A published figure; of a time, what it means per network call."""
    if not calls:
        return Value(tell(figure))
    return Value(f"{figure} s", tell("{time} per network call", time=duration(float(figure) * 1e9 / calls)))
