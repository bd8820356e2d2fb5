"""How a run measured, how to repeat it, and what it says nothing about."""

from __future__ import annotations

import shlex

from reports.chapters import findings as notes
from reports.page.blocks import Block, Code, Prose, Section
from reports.suites.quality import facts as quality
from reports.view.run import RunView
from reports.view.words import TRAINING

RESIDENT = (
    "Every block starts a fresh process of each arm. They stay resident while measured windows alternate "
    "between them, in "
    "an order drawn from a recorded seed, so that what disturbs the machine disturbs all of them."
)
SEQUENTIAL = (
    "Every block starts a fresh process of each arm, one after another, in an order that changes from "
    "block to block. They "
    "were not resident together, so noise of the machine cancels less than with alternating windows."
)
METHOD = (
    "A window ends when all enqueued work is done. A block gives one number, the median of its paired log-ratios; the "
    "verdict is a t interval over blocks, held against the margin declared before the run. Warm-up lasts until a "
    "change-point search calls the {time} steady. All {steps} are kept, outliers too. GFLOP/s are the "
    "analytic cost of "
    "the network, the same count for every arm, over measured time."
)
BATCHES = (
    "A whole batch is timed from its noise to uint8 images on the host. Ratios of cells are averaged as a geometric "
    "mean of ratios; seconds of different cells are never averaged."
)
QUALITY = (
    "Image quality: every arm draws image i from the same noise, seed and settings. A feature network turns drawn and "
    "real images into vectors; the distance compares their means and covariances. Intervals leave out one group of "
    "images after another (jackknife), for differences the same group in both arms."
)
ORIGIN = "The report is built from the run's journal alone and adds no measurement: verdicts stand as recorded."


def reproduce(seen: RunView) -> Section:
    """The command, the method in brief, and the limits."""
    started = seen.run.started
    blocks: list[Block] = []
    if started:
        blocks.append(Code(shlex.join(started.command), "The command of this run"))
        blocks.append(
            Code(
                shlex.join(["python", "-m", "reports", "build", f"{notes.out(seen)}/{seen.run.path.name}"]),
                "This report again, from its journal",
            )
        )
    else:
        blocks.append(Prose("Command: n/a, the journal's first line cannot be read."))
    if quality.recorded(seen.run):
        blocks.append(Prose(QUALITY))
    if quality.alone(seen.run):
        blocks += [Prose(ORIGIN), Prose(quality_limits(seen))]
        return Section("reproduce", "How to reproduce, method, limits", tuple(blocks))
    order = SEQUENTIAL if seen.bench("schedule") == "sequential" else RESIDENT
    method = METHOD.format(time=seen.unit.time, steps=seen.unit.steps)
    batches = (Prose(BATCHES),) if seen.unit is not TRAINING else ()
    blocks += [Prose(f"{order} {method}"), *batches, Prose(ORIGIN)]
    return Section("reproduce", "How to reproduce, method, limits", (*blocks, *(Prose(text) for text in limits(seen))))


def limits(seen: RunView) -> tuple[str, ...]:
    """What this run says nothing about."""
    found = []
    devices = seen.devices
    if devices == ["cpu"]:
        found.append("Not run on hardware here: CUDA. This run measured on the CPU and says nothing about a GPU.")
    elif not devices:
        found.append("No worker proved a device, so this run says nothing about any.")
    found.append("Absolute times belong to this machine and its load; quote ratios with their intervals.")
    if seen.setting("preset") == "tiny":
        found.append(
            "The preset tiny is sized for CPUs: fixed costs per operator weigh more in it than in the paper's network."
        )
    return ("Limits. " + " ".join(found),)


def quality_limits(seen: RunView) -> str:
    """What a run about image quality alone says nothing about."""
    device = seen.bench("device")
    where = f"The images were drawn on the device {device}. " if isinstance(device, str) else ""
    sized = " The preset tiny is sized for CPUs: its distances say nothing about the paper's network."
    tiny = sized if seen.setting("preset") == "tiny" else ""
    return (
        f"Limits. {where}A distance belongs to its network, real images and number of images: quote it with them, and "
        f"compare only distances that share all three.{tiny}"
    )
