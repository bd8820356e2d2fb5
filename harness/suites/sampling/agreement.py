"""Do all arms draw the same images? The gate of a sampling suite, and the pictures of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.bench import SLOW_LIMIT_S, Bench
from harness.judge.fairness import precision as precision_of
from harness.processes.session import WorkerFailedError
from harness.protocol import sampling
from harness.record.events import ArmSlot, Case, SampleAgreement, SamplesDrawn
from harness.suites.sampling.cells import Cell, shown
from harness.suites.weights import build_sampler
from impls.backend import BackendInfo
from impls.pictures import images
from impls.recipe.config import ExperimentConfig
from impls.recipe.precision import Precision, coarsest
from impls.store import checkpoint
from messages import recorded, tell

DRAWN = 16
FRAMES = 16
GIF_MS = 4000
# Rounding of float32 differs between frameworks; a value that it carries over a level's edge differs by one.
TOLERANCES: Mapping[Precision, float] = {"float32": 0.999, "tf32": 0.99, "float16": 0.99, "bfloat16": 0.9}

Images = NDArray[np.uint8]


def run_agreement(bench: Bench, cells: Sequence[Cell]) -> None:
    """Have every arm draw the same images once, keep them as pictures, and compare those of arms that are compared."""
    plan, cell = bench.plan, shown(cells)
    slots = list({arm.name: slot for slot, arm in reversed(plan.arms)}.values())[::-1]
    drawn: dict[ArmSlot, tuple[Images, Precision]] = {}
    with bench.progress.bar(len(slots), tell("drawing {images} images, {cell}", images=DRAWN, cell=cell.name)):
        for slot in slots:
            bench.check_time(recorded("before the arms' images were compared"))
            bench.progress.status(plan.arm(slot).name)
            try:
                drawn[slot] = _draw(bench, slot, cell)
            except WorkerFailedError as error:
                bench.ledger.fail(f"samples-{slot}", slot, None, error, f"{slot}-samples")
            bench.progress.advance()
    # Two slots of one arm share their images.
    of = {slot: next(first for first in slots if plan.arm(first).name == plan.arm(slot).name) for slot in plan.slots}
    for comparison in plan.comparisons:
        a, b = of[comparison.a], of[comparison.b]
        if comparison.selfcheck or b not in drawn:
            continue
        case = Case(case_id=f"images-{comparison.b}", arm=comparison.b, block=None, status="skipped",
                    reason=recorded("{arm}, which it is compared with, failed", arm=plan.arm(comparison.a).name))
        if a not in drawn:
            bench.ledger.case(case)
            continue
        precision = coarsest(drawn[a][1], drawn[b][1])
        result = compare(comparison.a, comparison.b, cell, drawn[a][0], drawn[b][0], precision)
        # The case first: a run that goes on after an interruption between the two lines compares again.
        bench.ledger.measured(case.model_copy(update={
            "status": "measured" if result.passed else "failed", "reason": result.reason,
            "log": f"logs/{b}-samples.log"}))
        bench.writer.append(result)
        places = {"a": plan.arm(comparison.a).name, "b": plan.arm(comparison.b).name,
                  "share": f"{result.within_one:.4%}", "worst": result.largest}
        bench.progress.say(
            tell("images: {a} and {b} agree: {share} of the values within one level, worst {worst}", **places)
            if result.passed else
            tell("images: {a} and {b} DISAGREE: {share} of the values within one level, worst {worst}", **places))


def compare(arm_a: ArmSlot, arm_b: ArmSlot, cell: Cell, a: Images, b: Images,
            precision: Precision) -> SampleAgreement:
    """Hold arm B's images against arm A's; `precision` is the coarser of their number formats."""
    same = a.shape == b.shape
    apart = np.abs(a.astype(np.int16) - b) if same else np.full(1, 255, np.int16)
    share = float(np.mean(apart <= 1))
    tolerance = TOLERANCES[precision]
    passed = share >= tolerance
    reason = None if passed else (
        recorded("only {share} of the values are within one level, at least {tolerance} wanted",
                 share=f"{share:.2%}", tolerance=f"{tolerance:.1%}") if same
        else recorded("the images have other shapes: {a} and {b}", a=a.shape, b=b.shape))
    return SampleAgreement(arm_a=arm_a, arm_b=arm_b, cell=cell.name, images=len(a), within_one=share,
                           largest=int(apart.max()), tolerance=tolerance, precision=precision, passed=passed,
                           reason=reason)


def matched(experiment: ExperimentConfig) -> ExperimentConfig:
    """The experiment with a keyed stream of noise per image, the same for all arms."""
    sample = experiment.sample.model_copy(update={"randomness": "matched", "batch_size": DRAWN})
    return experiment.model_copy(update={"sample": sample})


def _draw(bench: Bench, slot: ArmSlot, cell: Cell) -> tuple[Images, Precision]:
    log, seed = f"{slot}-samples", bench.experiment.seed
    session, created = bench.open(slot, log)
    with session, bench.sessions.folder("samples") as folder:
        build_sampler(bench, session, matched(bench.experiment))
        output = folder / "drawn.safetensors"
        session.ask(sampling.Draw(method=cell.method, steps=cell.steps, images=DRAWN, seed=seed, frames=FRAMES,
                                  output=str(output)), SLOW_LIMIT_S)
        arrays = checkpoint.load_arrays(output)
    grid, gif = f"samples/{slot}-{cell.name}.png", f"samples/{slot}-{cell.name}.gif"
    images.save_grid(bench.writer.path / grid, arrays["images"])
    images.save_gif(bench.writer.path / gif, [images.grid(frame) for frame in arrays["frames"]], GIF_MS)
    bench.writer.append(SamplesDrawn(arm=slot, cell=cell.name, seed=seed, images=DRAWN, weights=bench.weights_from,
                                     grid=grid, gif=gif))
    bench.ledger.measured(Case(case_id=f"samples-{slot}", arm=slot, block=None, status="measured",
                               log=f"logs/{log}.log"))
    drawn: Images = arrays["images"]
    return drawn, precision_of(BackendInfo(**created.info))
