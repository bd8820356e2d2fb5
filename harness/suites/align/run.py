"""Has two arms traced and compares them: the reference first, with its twins, then the arm that is held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.bench import SLOW_LIMIT_S, Bench
from harness.blocks.warmup import worker_line
from harness.judge.fairness import precision
from harness.plan import BEFORE_BLOCKS, Comparison
from harness.processes.session import Session, WorkerFailedError
from harness.protocol import training
from harness.protocol.tracing import Trace, TraceDone
from harness.record.events import AlignedLayer, Alignment, ArmSlot, Case
from harness.suites.align.compare import TWINS, Traces
from harness.suites.align.culprit import first
from harness.suites.align.hints import hints
from harness.suites.align.kinks import at_kinks
from harness.suites.parity.subject import Subject, subject_of
from impls.backend import BackendInfo
from impls.recipe.precision import Precision
from impls.recipe.trace import Twin
from impls.store import checkpoint
from impls.store.traces import TraceFolder
from messages import marked, recorded, shown, tell

WHERE = marked("while layers were compared")


@dataclass(frozen=True)
class Arm:
    """A traced arm.

    Attributes:
        slot: its letter.
        folder: its trace.
        precision: what its products and convolutions are computed in.
        refused: why there is no trace.
        images: of a step, where the worker alone knows.
    """

    slot: ArmSlot
    folder: Path
    precision: Precision = "float32"
    refused: str | None = None
    images: int | None = None


class Aligning:
    """The traces of a run, each made once and kept until all pairs are compared.

    Args:
        bench: the run.
        steps: whole training steps behind the layers.
        batch_size: images of a step, where there are so many.
        folder: where the traces are.
    """

    def __init__(self, bench: Bench, steps: int, batch_size: int, folder: Path) -> None:
        self.bench, self.steps, self.folder = bench, steps, folder
        self.subject = subject_of(bench.experiment, bench.images, batch_size)
        # One with PyTorch first: a pair's names in traces are those of its weights.
        self.pairs = sorted((pair for pair in bench.plan.comparisons if not pair.selfcheck), key=self.without_pytorch)
        self.references: dict[ArmSlot, Arm] = {}

    def run(self) -> None:
        """Every pair."""
        for pair in self.pairs:
            self.bench.check_time(WHERE)
            slot = self.reference(pair)
            other: ArmSlot = pair.b if slot == pair.a else pair.a
            case = f"align-{pair.b}"
            try:
                failing = slot
                if slot not in self.references:
                    self.references[slot] = self.traced(slot, self.folder / slot, None)
                failing = other
                found = self.traced(other, self.folder / f"{other}-fed", self.references[slot])
            except WorkerFailedError as error:
                self.bench.ledger.fail(case, failing, None, error, f"{failing}-align")
                continue
            *layers, line = self.compared(pair, self.references[slot], found)
            for one in (*layers, line):
                self.bench.writer.append(one)
            failed = line.reason if line.word == "not-traced" else None
            self.bench.ledger.measured(Case(case_id=case, arm=pair.b, block=None, reason=failed,
                                            status="skipped" if failed else "measured",
                                            log=f"logs/{other}-align.log"))

    def without_pytorch(self, pair: Comparison) -> bool:
        """Whether neither arm is PyTorch's."""
        return all(self.bench.plan.arm(slot).backend != "pytorch" for slot in (pair.a, pair.b))

    def reference(self, pair: Comparison) -> ArmSlot:
        """The arm that the other one is held against: PyTorch's, else the first."""
        backends = {slot: self.bench.plan.arm(slot).backend for slot in (pair.a, pair.b)}
        return pair.b if backends[pair.a] != "pytorch" and backends[pair.b] == "pytorch" else pair.a

    def traced(self, slot: ArmSlot, folder: Path, reference: Arm | None) -> Arm:
        """One arm's trace: as it runs, and fed by the reference, or by itself; of a reference, its twins' too."""
        bench = self.bench
        name = bench.plan.arm(slot).name
        bench.progress.status(tell("{arm}: starting", arm=name))
        session, created = bench.open(slot, f"{slot}-align")
        with session:
            built = bench.build(session, self.subject.experiment)
            start = self.folder / "start.safetensors"
            if not start.exists():
                write_start(session, self.subject, start)
            session.ask(training.LoadState(path=str(start)), SLOW_LIMIT_S)
            feed = folder if reference is None else reference.folder
            done = self.ask(session, name, Trace(output=str(folder), twin="plain"))
            arm = Arm(slot, folder, precision(BackendInfo(**built.info)), images=built.images)
            if not done.offered:
                return Arm(slot, folder, arm.precision, recorded(
                    "{arm}: its trainer has no trace(twin, sink, feed, steps)", arm=name))
            self.ask(session, name, Trace(output=str(folder), twin="plain", feed=str(feed), steps=self.steps))
            for twin in TWINS if reference is None else ():
                self.twin(session, name, folder, twin)
            bench.writer.append(worker_line(session, created, built, block=BEFORE_BLOCKS, role="align",
                                            first_step_ns=0, first_stamp_ns=0))
        return arm

    def twin(self, session: Session, name: str, folder: Path, twin: Twin) -> None:
        """What a twin of the reference is off by; not every arm computes in float64."""
        try:
            for feed in (None, str(folder)):
                self.ask(session, name, Trace(output=str(folder), twin=twin, feed=feed, steps=self.steps))
        except WorkerFailedError as error:
            if twin != "double" or error.cause in ("crash", "hang"):
                raise
            self.bench.progress.say(tell("{arm} has no twin in float64 ({error}): what is allowed rests on the "
                                         "perturbed one alone", arm=name, error=shown(error.message)))
            (folder / f"{twin}.json").unlink(missing_ok=True)

    def ask(self, session: Session, name: str, command: Trace) -> TraceDone:
        """One command, within the time limit."""
        self.bench.check_time(WHERE)
        how = tell("{arm}: every layer, fed", arm=name) if command.feed else tell(
            "{arm}: every layer, as it runs", arm=name)
        self.bench.progress.status(how + f", {command.twin}" * (command.twin != "plain"))
        return session.ask(command, SLOW_LIMIT_S)

    def compared(self, pair: Comparison, reference: Arm, other: Arm) -> list[Any]:
        """The lines of a pair."""
        common = {"part": self.bench.plan.part.name, "arm_a": pair.a, "arm_b": pair.b, "reference": reference.slot,
                  "batch_size": self.subject.batch_size(reference.images)}
        refused = reference.refused or other.refused
        if refused is not None:
            return [Alignment.model_validate({**common, "calls": 0, "compared": 0, "twins": [], "training": [],
                                              "word": "not-traced", "reason": refused})]
        formats = reference.precision, other.precision
        return lines(Traces(TraceFolder(reference.folder), TraceFolder(other.folder), formats), common)


def lines(traces: Traces, common: Mapping[str, Any]) -> list[Any]:
    """What two traces amount to: a line for each call of the reference, then what all of them say; pure.

    Args:
        traces: of the reference and of the other arm.
        common: what both kinds of lines say of the pair, and the second kind of the run.
    """
    layers = traces.layers()
    of_all = {**common, "calls": len(layers), "compared": sum(layer.other is not None for layer in layers),
              "twins": list(traces.twins), "unmatched": traces.unmatched(),
              "notes": sorted({one.reason for layer in layers for one in layer.differences
                               if one.agrees and one.reason is not None})}
    if not of_all["compared"]:
        return [Alignment.model_validate({**of_all, "training": [], "word": "not-traced",
                                          "reason": recorded("no module has the same name in both networks")})]
    kinks = at_kinks(layers, traces)
    layers, trained = kinks.layers, traces.training(kinks.share)
    culprit, further = first(layers, trained)
    told = [] if culprit is None else hints(culprit, layers, traces)
    word = "agree" if culprit is None else "differ"
    pair = {key: common[key] for key in ("part", "arm_a", "arm_b")}
    return [*(AlignedLayer.model_validate({**pair, **asdict(layer.call), "differences": layer.differences})
              for layer in layers),
            Alignment.model_validate({**of_all, "training": trained, "word": word, "culprit": culprit,
                                      "further": further, "hints": told, "kinks": kinks.found})]


def write_start(session: Session, subject: Subject, start: Path) -> None:
    """The same weights for all arms, by the names and shapes of the first, or its own."""
    session.ask(training.SaveState(path=str(start)), SLOW_LIMIT_S)
    checkpoint.save_state(start, subject.start(checkpoint.load_state(start)[0]), subject.experiment)


def align(bench: Bench, steps: int, batch_size: int) -> None:
    """Compare what the plan compares and record the results."""
    with bench.sessions.folder("align") as folder:
        Aligning(bench, steps, batch_size, folder).run()
