"""The parity check: its figures beside their tolerances, and how far matched losses drift apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from shlex import quote

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.record.events import ParityResult
from messages import marked, plural, shown, tell, words
from reports.chapters.measured.losses import shared
from reports.page.blocks import Block, Code, Prose, Section, Table, head
from reports.page.data import Data
from reports.page.figures import FigureMaker, numbered
from reports.page.plotting import INK, MUTED, SERIES, Drawn, legend_above, sheet
from reports.text import DASH, Floats, Value, missing, number, passed, tag
from reports.view.run import RunView
from reports.view.words import precision_words

PARITY_ROWS = (
    ("forward_max_abs", marked("forward, largest absolute difference"), "forward"),
    ("gradient_worst_rel", marked("gradients, worst relative difference"), "gradient"),
    ("adam_max_abs", marked("one Adam step, largest absolute difference"), "adam"),
)
# A pair's own optimiser.
ANY_STEP = marked("one step of the optimiser, largest absolute difference")
LOSS = "loss"
OF_PAIR = marked(
    "Both models start from the weights and buffers of PyTorch's and get the same batches, dropout layers switched "
    "off. What is allowed is what rounding was seen to do to the U-Net, relative to this network's numbers, or ten "
    "times what the control shows where that is more: the first arm from weights that are off by 1e-7. If a figure "
    "lies outside, no speed verdict is given."
)
SAME = marked(
    "Both arms start from the same weights and get the same batches, timesteps and noise, dropout off. If a figure "
    "lies outside its tolerance, no speed verdict is given."
)


def section(seen: RunView, figures: FigureMaker) -> Section | None:
    """All parity checks, or that there is none where there are arms to compare."""
    found = seen.run.of(ParityResult)
    if found:
        checks = (block for number, one in enumerate(found) for block in told(seen, figures, one, number))
        how = Prose(tell(OF_PAIR if seen.pair else SAME))
        return Section("parity", tell("Parity: do both compute the same thing?"), (how, *checks))
    none = Prose(tell("Parity: n/a, no check was recorded in this run."))
    return Section("parity", tell("Parity"), (none,)) if len(seen.arms) > 1 else None


def told(seen: RunView, figures: FigureMaker, result: ParityResult, number: int) -> Iterator[Block]:
    """One check; `number` tells several apart."""
    yield parity(seen, result)
    if not result.passed and result.reason:
        yield Prose(tell("Failed: {reason}", reason=shown(result.reason)))
        names = ",".join(seen.run.arms.get(slot, slot) for slot in (result.arm_a, result.arm_b))
        of = f" --pair {quote(seen.pair.name)}" if seen.pair else ""  # English
        command = f"python run_bench.py --suite align{of} --arms {names}"  # English
        yield Code(command, tell("This names the first layer that differs"))
    yield figures.make(numbered("parity", number), partial(parity_losses, seen, result))


def parity(view: RunView, result: ParityResult) -> Table:
    """One parity check: each figure beside its tolerance."""
    rows: list[tuple[Value, ...]] = [
        (
            Value(tell("same parameters (names and shapes)")),
            Value(tell("yes") if result.parameters_equal else tell("no")),
            Value(DASH),
            passed(result.parameters_equal),
        )
    ]
    for field, usual, name in PARITY_ROWS:
        note = result.gradient_worst_name if field == "gradient_worst_rel" else None
        what = tell(ANY_STEP if view.pair and field == "adam_max_abs" else usual)
        rows.append(parity_row(what, getattr(result, field), result.tolerances.get(name), note, result))
    worst, control = worst_of(result.loss_rel_diff), worst_of(result.control_rel_diff)
    note = tell("no control was run") if control is None else tell(
        "control (weights off by 1e-7): {figure}", figure=number(control, 2))
    losses = tell("losses of {steps}, worst relative difference",
                  steps=plural(len(result.loss_rel_diff), "matched step"))
    allowed = result.tolerances.get(LOSS)
    if result.passed and worst is not None and allowed is not None and worst > allowed:
        note += tell("; the tolerance holds the first steps only, rounding grows in later ones")
    rows.append(parity_row(losses, worst, allowed, note, result))
    recipe = tell("pair {name}", name=view.pair.name) if view.pair else tell("preset {name}", name=result.preset)
    caption = tell("{other} against {one}, {recipe}, batch {images}{tolerances}: {state}",
                   other=view.label(result.arm_b), one=view.label(result.arm_a), recipe=recipe,
                   images=result.batch_size, tolerances=held(result),
                   state=tell("passed") if result.passed else tell("failed"))
    return Table(caption, head(*words("check", "found", "allowed", "result")), tuple(rows))


def held(result: ParityResult) -> str:
    """Whose tolerances apply, where they are not the usual ones."""
    coarser = result.precision is not None and result.precision != "float32"
    return tell(", tolerances of {precision}", precision=precision_words(result.precision)) if coarser else ""


def worst_of(differences: Sequence[float]) -> float | None:
    """The largest difference, NaN when any is not a number, None when there are none."""
    return float(np.max(differences)) if len(differences) else None


def parity_row(
    what: str, found: float | None, allowed: float | None, note: str | None, result: ParityResult
) -> tuple[Value, ...]:
    """One figure of a parity check. A recorded pass stands; after a failure each figure is held to its tolerance."""
    if found is None:
        why = shown(result.reason) if result.reason else tell("not measured in this run")
        return Value(what), missing(why), tolerance(allowed), Value(tell("not checked"))
    figure = Value(number(found, 2) if np.isfinite(found) else tell("not a number"), note)
    if allowed is None:
        return Value(what), figure, tolerance(allowed), Value(tell("not held to one"))
    # Written so that NaN is a fault.
    return Value(what), figure, tolerance(allowed), passed(result.passed or bool(found <= allowed))


def tolerance(allowed: float | None) -> Value:
    """What is allowed."""
    return Value(number(allowed, 2)) if allowed is not None else missing(tell("no tolerance recorded"))


def parity_losses(view: RunView, result: ParityResult, narrow: bool) -> Drawn | str:
    """Relative difference of matched losses per step, beside the perturbation control and the tolerance."""
    steps, found = finite(result.loss_rel_diff)
    control_steps, control = finite(result.control_rel_diff)
    lost = len(result.loss_rel_diff) - found.size
    if not result.loss_rel_diff:
        return shown(result.reason) if result.reason else tell("no matched steps were run")
    if not found.size:
        return tell("none of {differences} of matched losses is a finite number",
                    differences=plural(lost, "difference"))
    figure, (axis,) = sheet(narrow, 2.5)
    allowed = result.tolerances.get(LOSS)
    floor = smallest(found, control)
    one, other = view.label(result.arm_a), view.label(result.arm_b)
    axis.plot(
        steps,
        np.maximum(found, floor),
        color=SERIES[result.arm_b].color,
        marker=SERIES[result.arm_b].marker,
        markersize=3,
        label=tell("{other} against {one}", other=tag(other, 24), one=tag(one, 24)),
    )
    if control.size:
        axis.plot(
            control_steps,
            np.maximum(control, floor),
            color=MUTED,
            linestyle=(0, (4, 2)),
            label=tell("control: weights off by 1e-7"),
        )
    data = Data(words("what", "matched step", "relative difference of losses"))
    for name, at, values in ((tell("{other} against {one}", other=other, one=one), steps, found),
                             (tell("control"), control_steps, control)):
        for step, far in zip(at.tolist(), values.tolist(), strict=True):
            data.point(axis, step, max(far, floor), name, f"{step:.0f}", number(far))
    if allowed is not None and math.isfinite(allowed) and allowed > 0:
        axis.axhline(allowed, color=INK, linewidth=1.1, linestyle=(0, (1, 1)),
                     label=tell("tolerance {figure}", figure=number(allowed, 2)))
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel(tell("matched step"))
    axis.set_ylabel(tell("relative difference"))
    legend_above(figure, axis, 1 if narrow else 3)
    allowed_words = tell("; allowed: {figure}", figure=number(allowed, 2)) if allowed is not None else ""
    lost_words = tell(" {steps} left out: no finite number.", steps=plural(lost, "further step")) if lost else ""
    return Drawn(
        figure,
        tell("The losses of {other} and {one} differ by at most {most} relative over {steps}{allowed}.{lost}",
             other=other, one=one, most=number(float(np.max(found)), 2), steps=plural(found.size, "matched step"),
             allowed=allowed_words, lost=lost_words),
        tell("The same {shared} in both. The control is one arm against itself from weights off by 1e-7: what "
             "rounding alone grows into.", shared=shared(view)),
        data,
    )


def finite(differences: list[float]) -> tuple[Floats, Floats]:
    """The steps that have a finite difference, and these differences."""
    values = np.array(differences, dtype=np.float64)
    steps = np.flatnonzero(np.isfinite(values))
    return steps.astype(np.float64), values[steps]


def smallest(*series: Floats) -> float:
    """A floor for a logarithmic axis: exact agreement is drawn there instead of vanishing."""
    positive = np.concatenate([values[values > 0] for values in series])
    return float(positive.min()) / 2 if positive.size else 1e-12
