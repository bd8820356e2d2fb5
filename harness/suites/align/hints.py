"""What is known of a culprit like this one, where its arrays bear it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.record.events import Culprit
from harness.suites.align.compare import DROPPING, Layer, Traces
from harness.suites.align.known import causes, momentum
from impls.recipe.trace import kept
from messages import recorded

Array = NDArray[Any]
# How much of what two optimisers differ by a single factor may leave over.
LEFT = 0.05
# The second of two gradients is not quite the first.
TWICE = 0.2


def hints(culprit: Culprit, layers: Sequence[Layer], traces: Traces) -> list[str]:
    """Known causes that the arrays of the culprit bear out, in words; most likely one, or none."""
    if culprit.number is not None:
        layer = layers[culprit.number]
        found = _backward(layer, culprit, traces) if culprit.stage == "backward" else _forward(layer, culprit, layers,
                                                                                              traces)
    else:
        found = training(culprit, traces) if culprit.stage in ("optimizer", "steps") else iter(())
    return list(dict.fromkeys(found))[:3]


def _forward(layer: Layer, culprit: Culprit, layers: Sequence[Layer], traces: Traces) -> Iterator[str]:
    if layer.other is None:
        return
    number, other = layer.call.number, layer.other.number
    run = traces.reference.read(f"run {number}")  # English
    own = {name.removeprefix("own "): run[name] for name in run if name.startswith("own ")}
    if culprit.place == DROPPING:
        mine, theirs = (one.read("dropped")[layer.call.name] for one in (traces.reference, traces.other))
        yield _dropped(float(mine[0]), float(theirs[0]))
        return
    if culprit.place.endswith(" afterwards"):
        what = culprit.place.removesuffix(" afterwards")
        fed = traces.reference.read(f"fed {number}"), traces.other.read(f"fed {other}")  # English
        if what in own and "input 0" in run and culprit.place in fed[1]:
            said = momentum(run["input 0"], own[what], fed[0][culprit.place], fed[1][culprit.place].reshape(
                own[what].shape), what)
            yield from [said] if said else []
        return
    for x, mine, theirs in _triples(layer, culprit, layers, traces):
        yield from causes(x, mine, theirs, own)


def _triples(layer: Layer, culprit: Culprit, layers: Sequence[Layer], traces: Traces
             ) -> Iterator[tuple[Array, Array, Array]]:
    """Inputs of the culprit, with what each arm makes of them."""
    number = layer.call.number
    assert layer.other is not None
    run = traces.reference.read(f"run {number}")  # English
    inputs = [run[name] for name in run if name.startswith("input")]
    fed = traces.reference.read(f"fed {number}"), traces.other.read(f"fed {layer.other.number}")  # English
    if culprit.place.startswith("output") and culprit.place in fed[1]:
        made = [(fed[0][culprit.place], fed[1][culprit.place])]
    else:
        made = []
    inside = [one for one in layers if one.call.within == number and one.other is not None]
    if inside:
        # What the code between two modules is given, and what it makes: as the network ran, up to there both agree.
        outputs = [(one, traces.reference.read(f"out {one.call.number}")) for one in inside]  # English
        inputs += [arrays[name] for _, arrays in outputs for name in arrays]
        for one in inside:
            bad = one.failing("input", fed=False)
            assert one.other is not None
            if bad is not None:
                pair = (traces.reference.read(f"run {one.call.number}"),  # English
                        traces.other.read(f"run {one.other.number}"))  # English
                if bad.place in pair[1]:
                    made.append((pair[0][bad.place], pair[1][bad.place]))
                break
    yield from ((x, mine, theirs) for mine, theirs in made for x in inputs)


def _dropped(mine: float, theirs: float) -> str:
    if theirs == 0:
        return recorded("dropout is switched off: it drops nothing, the reference {share}; Jittor's starts so, until "
                        "model.train()", share=f"{mine:.2f}")
    shares = {"share": f"{theirs:.2f}", "other": f"{mine:.2f}"}
    if abs(mine + theirs - 1) < LEFT:
        return recorded("dropout: {share} are dropped, {other} by the reference: one keeps what the other drops",
                        **shares)
    return recorded("dropout: {share} are dropped, {other} by the reference", **shares)


def _backward(layer: Layer, culprit: Culprit, traces: Traces) -> Iterator[str]:
    """A gradient that is not there at all."""
    failing = [one for one in layer.differences if not one.agrees and one.place == culprit.place]
    if not failing and layer.other is not None:
        failing = [one for one in layer.differences if not one.agrees and one.place.startswith("gradient")]
    if any(one.max_rel is not None and abs(one.max_rel - 1) < 1e-9 and one.cosine is None for one in failing):
        yield recorded("no gradient gets there: stopped by stop_grad or detach; in Jittor also by model.eval(), for "
                       "good until model.train()")


def training(culprit: Culprit, traces: Traces) -> Iterator[str]:
    """What tells one optimiser from another, of one and the same gradient."""
    large, small = (_moved(traces, f"update {number}") for number in (0, 1))  # English
    if culprit.stage == "optimizer" and large is not None and small is not None:
        said = (_factor(large, small) or _epsilon(traces, small) or _epsilon(traces, large))
        yield from [said] if said else []
    whole = _moved(traces, "step")
    if culprit.stage == "steps" and whole is not None:
        ratio, left = _ratio(*whole["weight"])
        moments = [_ratio(*whole[what])[0] for what in ("exp_avg", "momentum_buffer") if what in whole]
        # Of one gradient g, two updates leave 0.9 * 0.1 g + 0.1 g in Adam's moment, 0.9 g + g in the usual momentum.
        if (abs(ratio - 2) < LEFT and left < LEFT) or any(abs(moment - 1.9) < TWICE for moment in moments):
            yield recorded("the step is taken twice: a gradient moves weights, or the optimiser's moments, as two "
                           "updates do; in Jittor opt.step(loss) is a whole step already")


def _moved(traces: Traces, group: str) -> dict[str, tuple[Array, Array]] | None:
    """Both arms' changes of all weights in one array, and so for each of Adam's moments."""
    mine, theirs = traces.reference.read(group), traces.other.read(group)
    found: dict[str, list[tuple[Array, Array]]] = {}
    for name in mine:
        what = name.partition(" ")[0]
        if name in theirs and what in ("weight", "exp_avg", "momentum_buffer") and mine[name].size == theirs[name].size:
            found.setdefault(what, []).append((mine[name].reshape(-1), theirs[name].reshape(-1)))
    if "weight" not in found:
        return None
    return {what: tuple(np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
            for what, pairs in found.items()}


def _ratio(mine: Array, theirs: Array) -> tuple[float, float]:
    """The factor between both, and which share of their difference it leaves."""
    size, apart = float(mine @ mine), float(np.linalg.norm(mine - theirs))
    if not size or not np.isfinite(apart):
        return float("nan"), float("inf")
    ratio = float(mine @ theirs) / size
    return ratio, float(np.linalg.norm(theirs - ratio * mine)) / apart if apart else float("inf")


def _factor(large: dict[str, tuple[Array, Array]], small: dict[str, tuple[Array, Array]]) -> str | None:
    """A rate, where every update is as many times as large; a clip, where only large gradients' are."""
    ratio, left = _ratio(*large["weight"])
    again, _ = _ratio(*small["weight"])
    if left < LEFT and abs(again - ratio) < 0.01 * ratio:
        return recorded("learning rate: it moves every weight {ratio} times as far", ratio=f"{ratio:.4g}")
    for what in ("exp_avg", "momentum_buffer", "weight"):
        if what in large:
            ratio, left = _ratio(*large[what])
            again, _ = _ratio(*small[what])
            if left < LEFT and abs(ratio - 1) > 0.01 and abs(again - 1) < 0.01:
                return (recorded("clip: it clips gradients less than the reference, or not at all: of large gradients "
                                 "it takes {ratio} times as much, of small ones the same", ratio=f"{ratio:.4g}")
                        if ratio > 1 else
                        recorded("clip: it clips gradients more than the reference: of large gradients it takes "
                                 "{ratio} times as much, of small ones the same", ratio=f"{ratio:.4g}"))
    return None


def _epsilon(traces: Traces, moved: dict[str, tuple[Array, Array]]) -> str | None:
    """Adam's epsilon: where gradients are small a first update is rate * g / (|g| + epsilon)."""
    gradients = traces.reference.read("gradients")
    group = traces.reference.read("update 0")
    names = [name.partition(" ")[2] for name in group if name.startswith("weight ")]
    taken = [gradients[name].reshape(-1)[kept(gradients[name])] for name in names if name in gradients]
    if not taken:
        return None
    g = np.abs(np.concatenate(taken).astype(np.float64))
    mine, theirs = (_apparent(g, changed) if len(changed) == len(g) else None for changed in moved["weight"])
    if theirs is None or (mine is not None and abs(theirs / mine - 1) < 0.2):
        return None
    if mine is None:
        return recorded("Adam's epsilon: it slows small gradients down, the reference's is too small to be seen here")
    ratio = f"{theirs / mine:.3g}"
    if 25 < theirs / mine < 40:
        return recorded("Adam's epsilon: it acts as one {ratio} times the reference's; so it is where epsilon stands "
                        "inside the bias correction, as in jittor.optim.Adam; AdamW without decay has PyTorch's "
                        "formula", ratio=ratio)
    return recorded("Adam's epsilon: it acts as one {ratio} times the reference's", ratio=ratio)


def _apparent(g: Array, changed: Array) -> float | None:
    """The epsilon that first updates show, in units of g; None where they show none that is the same for all."""
    rate = float(np.abs(changed).max(initial=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = g * (rate / np.abs(changed) - 1)
    counted = each[(np.abs(changed) > 0.05 * rate) & (np.abs(changed) < 0.95 * rate) & np.isfinite(each)]
    if len(counted) < 5:
        return None
    epsilon = float(np.median(counted))
    return epsilon if float(np.median(np.abs(counted / epsilon - 1))) < 0.2 else None
