"""Runs the parity check: one worker per arm, the same files of weights and inputs to each."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from harness.bench import SLOW_LIMIT_S, Bench
from harness.blocks.warmup import cache_word, worker_line
from harness.judge.fairness import precision
from harness.plan import BEFORE_BLOCKS
from harness.processes.session import Session, WorkerFailedError
from harness.protocol import life, timing, training
from harness.record.events import ArmSlot, Case, Losses, ParityResult
from harness.suites.parity import numbers as parity
from harness.suites.parity.subject import ROOM, Subject, subject_of
from harness.suites.parity.tolerances import TOLERANCES
from impls.backend import BackendInfo
from impls.recipe.precision import WORDS, coarsest
from impls.store import checkpoint
from messages import marked, recorded, shown, tell

STEPS_AT_ONCE = 5
# Of steps that compile nothing, what the first calls together cost: a prediction, gradients, and a step.
FIRST_CALLS = 2.5
# However long they take: these show an optimiser's moments and a second batch, as one step cannot.
FEWEST = 1 + STEPS_AT_ONCE
# Steps that take so long are asked for one by one, so that a time limit and a person see each end.
SLOW_S = 10.0
WHERE = marked("during the parity check")


class Matched:
    """How many steps every arm takes, which the first of them settles by how long its own take.

    Attributes:
        asked: the most.
        steps: as far as is known.
    """

    def __init__(self, asked: int, within_s: float | None) -> None:
        self.asked = self.steps = asked
        self._within_s = within_s

    def settle(self, step_ns: Sequence[int]) -> None:
        """Take the first steps behind an arm's very first one as a measure of all, once."""
        if self._within_s is None:
            return
        fitting = int(self._within_s * 1e9 / statistics.median(step_ns))
        self.steps, self._within_s = min(self.asked, max(FEWEST, fitting)), None


def run_parity(bench: Bench, steps: int, batch_size: int, within_s: float | None = None) -> None:
    """Compare what the plan compares and record the results.

    Args:
        bench: the run.
        steps: matched optimisation steps.
        batch_size: images per step, where there are so many.
        within_s: how long the first arm's steps may take before all arms take fewer; None for all of them.
    """
    matched = Matched(steps, within_s)
    subject = subject_of(bench.experiment, bench.images, batch_size)
    pairs = [(c.a, c.b) for c in bench.plan.comparisons if not c.selfcheck]
    references = {a for a, _ in pairs}
    slots = subject.order(sorted({slot for pair in pairs for slot in pair}), bench.plan)
    own_case = {b for _, b in pairs}
    several = len({arm.precision for _, arm in bench.plan.arms}) > 1
    with bench.sessions.folder("parity") as folder, \
            bench.progress.bar(steps * (len(slots) + len(references)), tell("parity")):
        numbers: dict[ArmSlot, parity.ArmNumbers] = {}
        for slot in slots:
            bench.check_time(WHERE)
            log_name = f"{slot}-parity"
            try:
                numbers[slot] = _one_arm(bench, slot, subject, matched, folder, control=slot in references)
                if slot not in own_case:
                    # It has no case of its own unless it fails: its result is in those of the others.
                    bench.ledger.recovered(f"parity-{slot}", slot, log_name)
            except WorkerFailedError as error:
                bench.ledger.fail(f"parity-{slot}", slot, None, error, log_name)
    for a, b in pairs:
        if a in numbers and b in numbers:
            coarser = coarsest(numbers[a].precision, numbers[b].precision)
            result = parity.compare((a, b), numbers[a], numbers[b], subject.experiment,
                                    subject.allowed(numbers[a], coarser), subject.of_outputs(numbers[a], coarser),
                                    subject.update if subject.measured else "adam")
            bench.writer.append(result)
            format_of = WORDS[result.precision] if result.passed and several and result.precision else None
            bench.progress.say(_said(result, bench.plan.arm(a).name, bench.plan.arm(b).name, format_of, subject))
            arms = f"{bench.plan.arm(a).name},{bench.plan.arm(b).name}"
            of = f" --pair {quote(str(bench.plan.arm(a).spec.file))}" if bench.experiment.is_pair else ""  # English
            command = f"run_bench.py --suite align{of} --arms {arms}"  # English
            offer = recorded("{command} names the first layer that differs", command=command)
            reason = None if result.passed else f"{result.reason}; {offer}"
            bench.ledger.measured(Case(case_id=f"parity-{b}", arm=b, block=None,
                                       status="measured" if result.passed else "failed", reason=reason,
                                       log=f"logs/{b}-parity.log"))
        elif b in numbers:
            bench.ledger.case(Case(case_id=f"parity-{b}", arm=b, block=None, status="skipped",
                                   reason=recorded("{arm}, which it is compared with, failed",
                                                   arm=bench.plan.arm(a).name)))


def _said(result: ParityResult, a: str, b: str, format_of: str | None, subject: Subject) -> str:
    """A result for people; `format_of` names the number format within whose tolerances it is, where that must be."""
    if not result.passed:
        agreement = tell("parity: {a} and {b} DISAGREE", a=a, b=b)
    elif format_of is None:
        agreement = tell("parity: {a} and {b} agree", a=a, b=b)
    else:
        agreement = tell("parity: {a} and {b} agree within the tolerances of {format}", a=a, b=b,
                         format=shown(format_of))
    worst = max(result.loss_rel_diff[:parity.LOSS_STEPS], default=0.0)
    return tell("{agreement}: forward {forward}, gradients {gradients}, {update} {step}, losses {losses}",
                agreement=agreement, forward=_short(result.forward_max_abs),
                gradients=_short(result.gradient_worst_rel), update=tell(subject.update),
                step=_short(result.adam_max_abs), losses=f"{worst:.1e}") + (
        f" ({shown(result.reason)})" if result.reason else "") + _rounding(result, subject)


def _rounding(result: ParityResult, subject: Subject) -> str:
    """What rounding does to a network that is sensitive to it: the arms were held to this; empty for any other."""
    chosen, allowed = TOLERANCES[result.precision or "float32"], result.tolerances
    if not subject.measured or (allowed["gradient"] <= chosen.gradient and allowed["loss"] <= chosen.loss):
        return ""
    return tell("; rounding alone moves this network's gradients by up to {gradients}, its losses by up to {losses}",
                gradients=f"{allowed['gradient'] / ROOM:.1e}", losses=f"{allowed['loss'] / ROOM:.1e}")


def _one_arm(bench: Bench, slot: ArmSlot, subject: Subject, matched: Matched, folder: Path,
             control: bool) -> parity.ArmNumbers:
    bench.progress.status(tell("{arm}: starting", arm=bench.plan.arm(slot).name))
    session, created = bench.open(slot, f"{slot}-parity")
    with session:
        built = bench.build(session, subject.experiment)
        start, inputs = folder / "start.safetensors", folder / "inputs.safetensors"
        if not start.exists():
            _write_start(session, subject, folder)
        own, began = folder / slot, bench.clock()
        session.ask(training.LoadState(path=str(start)), SLOW_LIMIT_S)
        eps, shapes = _outputs(session, inputs, Path(f"{own}-eps.safetensors"))
        gradients = _gradients(session, Path(f"{own}-gradients.safetensors"))
        first = session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
        took_ns = round((bench.clock() - began) * 1e9)
        session.ask(training.SaveState(path=f"{own}-after.safetensors"), SLOW_LIMIT_S)
        cached = session.ask(life.ReadCache(), SLOW_LIMIT_S).compiled_files
        step_ns: list[int] = []
        try:
            losses = _losses(bench, session, matched, step_ns, done=1)
        finally:
            bench.writer.append(worker_line(
                session, created, built, block=BEFORE_BLOCKS, role="parity", first_step_ns=first.step_ns[0],
                first_stamp_ns=first.start_ns[0], cache=cache_word(created.compiled_files, cached), images=built.images,
                compile_ns=max(0, took_ns - round(FIRST_CALLS * statistics.median(step_ns))) if step_ns else None))
        perturbed: list[float] = []
        beside: parity.ControlNumbers | None = None
        if control:
            session.ask(training.LoadState(path=str(folder / "control.safetensors")), SLOW_LIMIT_S)
            if subject.measured:
                eps_control = _outputs(session, inputs, Path(f"{own}-eps-control.safetensors"))[0]
                gradients_control = _gradients(session, Path(f"{own}-gradients-control.safetensors"))
                session.ask(timing.Stepwise(steps=1), SLOW_LIMIT_S)
                after = Path(f"{own}-after-control.safetensors")
                session.ask(training.SaveState(path=str(after)), SLOW_LIMIT_S)
                beside = parity.ControlNumbers(eps_control, gradients_control, checkpoint.load_state(after)[0].params)
            perturbed = _losses(bench, session, matched, [], done=int(subject.measured))
            bench.writer.append(Losses(
                arm=slot, block=BEFORE_BLOCKS, randomness="control", first_step=0, losses=perturbed))
        bench.writer.append(Losses(arm=slot, block=BEFORE_BLOCKS, randomness="matched", first_step=0, losses=losses))
        return parity.ArmNumbers(
            eps=eps, gradients=gradients, output_shapes=shapes, images=subject.batch_size(built.images),
            control_numbers=beside,
            after_one=checkpoint.load_state(Path(f"{own}-after.safetensors"))[0].params,
            losses=losses, control=perturbed, precision=precision(BackendInfo(**built.info)))


def _outputs(session: Session, inputs: Path, output: Path) -> tuple[parity.Floats, tuple[tuple[int, ...], ...]]:
    """What the network puts out, one output behind the other, and the shapes of several."""
    session.ask(training.Predict(inputs=str(inputs), output=str(output)), SLOW_LIMIT_S)
    found = checkpoint.load_arrays(output)
    if "eps" in found:
        return found["eps"], ()
    ordered = [found[name] for name in sorted(found, key=int)]
    return np.concatenate([one.reshape(-1) for one in ordered]), tuple(one.shape for one in ordered)


def _gradients(session: Session, output: Path) -> dict[str, parity.Floats]:
    session.ask(training.Gradients(output=str(output)), SLOW_LIMIT_S)
    return checkpoint.load_arrays(output)


def _write_start(session: Session, subject: Subject, folder: Path) -> None:
    """The start for all arms, from the first arm's own state."""
    own = folder / "own.safetensors"
    session.ask(training.SaveState(path=str(own)), SLOW_LIMIT_S)
    state, experiment = checkpoint.load_state(own)[0], subject.experiment
    own.unlink()
    checkpoint.save_state(folder / "control.safetensors", subject.start(state, parity.PERTURBATION), experiment)
    checkpoint.save_arrays(folder / "inputs.safetensors", subject.inputs())
    checkpoint.save_state(folder / "start.safetensors", subject.start(state), experiment)


def _losses(bench: Bench, session: Session, matched: Matched, step_ns: list[int], done: int = 0) -> list[float]:
    """Losses of the matched steps, of which `done` have run; how long they take goes to `step_ns`."""
    bench.progress.advance(done)
    at_once = STEPS_AT_ONCE
    while done < matched.steps:
        bench.check_time(WHERE)
        count, began = min(at_once, matched.steps - done), bench.clock()
        bench.progress.status(tell("{arm}: matched steps", arm=session.arm.name))
        times = session.ask(timing.Stepwise(steps=count), SLOW_LIMIT_S)
        step_ns += times.step_ns
        matched.settle(times.step_ns)
        bench.progress.advance(count)
        done += count
        if bench.clock() - began > SLOW_S:
            at_once = 1
    bench.progress.advance(matched.asked - done)
    return session.ask(training.ReadLosses(), SLOW_LIMIT_S).losses


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1e}"
