"""From options to a job: device, recipe, weights and plans, each worked out once and the same for all that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.machine import gpu
from harness.options import AUTO, STRICT_PAIR, TF32_PAIR, BenchConfig, experiment
from harness.part import Asked
from harness.plan import Plan, make_plans
from harness.record.writer import check_results
from harness.run.aliases import aliases, written_out
from harness.suites.registry import SUITES
from harness.suites.weights import model_paths
from impls.data.datasets import CHANNELS, check_root
from impls.devices import require_tf32_switch
from impls.errors import UnavailableError, UsageError
from impls.pair.file import PairFile, read_pair
from impls.recipe.config import ExperimentConfig, SampleConfig
from impls.registry import Arm, Device
from messages import recorded, shown, tell

if TYPE_CHECKING:
    from harness.processes.session import Session
    from harness.processes.workers import LocalSessions
    from harness.progress import Progress
    from harness.protocol.life import Created
    from harness.record.run import RecordedRun
    from impls.store.weights import Weights


# The first GPUs with TF32: Ampere.
TF32_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Job:
    """A run as it was asked for.

    Attributes:
        options: what the user said.
        recipe: the experiment that it amounts to.
        plans: what runs, part by part.
        device_reason: why on this device, as it is recorded.
        command: the command line, for the record.
        given: weights that all arms sample from; None for random ones.
        resumed: the run that goes on; None for a new one.
        overrides: what the configuration file says of the experiment.
        pair: the user's own models; None for the U-Net.
        aliases: arms as they were asked for -> those that run, where one stands for another.
    """

    options: BenchConfig
    recipe: ExperimentConfig
    plans: tuple[Plan, ...]
    device_reason: str
    command: Sequence[str]
    given: Weights | None = None
    resumed: RecordedRun | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pair: PairFile | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> int | None:
        """Of the network's images, where weights, the user or the run that goes on decide; None where the data do."""
        settled = self.given or self.resumed or "image_channels" in self.overrides.get("model", {})
        return self.recipe.model.image_channels if settled else None


def resolve(options: BenchConfig, overrides: Mapping[str, Any], command: Sequence[str], progress: Progress) -> Job:
    """A new run.

    Args:
        options: what the user said.
        overrides: what the configuration file says of the experiment.
        command: the command line, for the record.
        progress: told what is being asked of a framework, and which device it is.

    Raises:
        UsageError: options that contradict each other, weights that cannot be read, or a device that cannot be had.
    """
    asked, said = _for_images(overrides, CHANNELS.get(options.dataset)), overrides.get("sample", {})
    check_places(options)
    given, pair = given_weights(options, said), given_pair(options)

    def planned(options: BenchConfig, device: Device) -> tuple[ExperimentConfig, tuple[Plan, ...]]:
        recipe = experiment(options, asked, device)
        if given is not None:
            # How the weights' owner samples them, unless the user's file says something else.
            recipe = recipe.model_copy(update={
                "sample": recipe.sample.model_copy(update=own_sampling(given, said)),
                **{name: getattr(given.config, name) for name in ("preset", "model", "diffusion")}})
        return recipe, make_plans(asked_of(options, device, recipe, asked))

    # What is refused is refused before a framework is started, which takes long; some arms exist on CUDA alone.
    either: Device = "cuda" if any(arm.device_fault("cpu") for arm in options.compared) else "cpu"
    device, reason = _device(options, progress, check=lambda: planned(options, either))
    if (device, either) == ("cpu", "cuda") and options.device == "auto":
        fault = next(fault for arm in options.compared if (fault := arm.device_fault("cpu")))
        raise UsageError(f"{shown(fault)}; {shown(reason)}")
    options, without = default_arms(options, device)
    reason += f"; {without}" if without else ""
    names = aliases(options, device, SUITES[options.suite].job)
    options = written_out(options, names)
    recipe, plans = planned(options, device)
    if not options.dry_run:
        progress.say(tell("device {device}: {reason}", device=device, reason=shown(reason)))
        for note in dict.fromkeys(note for plan in plans for note in plan.part.notes(recipe)):
            progress.say(tell("note: {note}", note=shown(note)))
    return Job(options, recipe, plans, reason, command, given, overrides=overrides, pair=pair,
               aliases=names)


def fitted(job: Job, channels: int) -> Job:
    """The job with a network for images of so many channels, unless something else has decided about that."""
    if job.channels is not None or job.recipe.model.image_channels == channels:
        return job
    device, asked = job.plans[0].device, _for_images(job.overrides, channels)
    recipe = experiment(job.options, asked, device)
    return replace(job, recipe=recipe, plans=make_plans(asked_of(job.options, device, recipe, asked)))


def asked_of(options: BenchConfig, device: Device, recipe: ExperimentConfig, overrides: Mapping[str, Any],
             told: Mapping[str, Any] | None = None) -> Asked:
    """What the parts plan themselves from."""
    return Asked(options, device, recipe.diffusion.T, overrides, told or {}, recipe.sample.spacing,
                 recipe.sample.steps_offset, recipe.train.batch_size)


def _for_images(overrides: Mapping[str, Any], channels: int | None) -> Mapping[str, Any]:
    """What the user says of the experiment, above it what the images say; None where they are not known yet."""
    model = overrides.get("model", {})
    return overrides if channels is None else {**overrides, "model": {"image_channels": channels, **model}}


def common_device(choice: str, arms: Sequence[Arm], driver_fault: Callable[[], str | None],
                  probe: Callable[[Arm], str | None]) -> tuple[Device, str]:
    """The device for all arms, with the reason, as it is recorded: CUDA only when every one of them can use it.

    Args:
        choice: "auto", "cpu" or "cuda".
        arms: what is compared.
        driver_fault: why there is no CUDA here at all, found without a framework; None when there may be.
        probe: asks an arm's framework why it cannot use CUDA; None when it can.

    Raises:
        UnavailableError: "cuda" was asked for and an arm cannot use it.
    """
    if choice == "cpu":
        return "cpu", recorded("as asked")
    for arm in dict.fromkeys(arms):
        fault = arm.device_fault("cuda") or driver_fault() or probe(arm)
        if fault is None:
            continue
        reason = fault if fault.startswith(arm.name) else f"{arm.name}: {fault}"
        if choice == "cuda":
            raise UnavailableError(tell("--device cuda: {reason}: choose --device cpu or leave this arm out",
                                        reason=shown(reason)))
        return "cpu", recorded("not every arm can use CUDA here: {reason}", reason=reason)
    return "cuda", recorded("as asked") if choice == "cuda" else recorded("every arm can use it")


def _device(options: BenchConfig, progress: Progress, check: Callable[[], object]) -> tuple[Device, str]:
    """The device of a new run; the arms' frameworks are asked in workers of their own, where there is a driver.

    Args:
        options: what the user said.
        progress: told what is being asked.
        check: called before the first worker is started.
    """
    with ExitStack() as opened:

        @cache
        def sessions() -> LocalSessions:
            from harness.processes.scratch import Scratch
            from harness.processes.workers import LocalSessions

            check()
            made = LocalSessions(options.cpu_threads, opened.enter_context(Scratch()), options.python, watcher=progress)
            opened.callback(made.close)
            return made

        def probe(arm: Arm) -> str | None:
            progress.say(tell("asking {arm} whether it can use CUDA", arm=arm.name))
            runs = arm.spelled_out("cuda", SUITES[options.suite].job)
            return _cuda_fault(sessions(), arm, runs.name, options.cpu_threads)

        device, reason = common_device(options.device, options.compared, gpu.fault, probe)
    named = gpu.words()
    if device == "cuda" and named:
        reason = (recorded("as asked; on {gpu}", gpu=named) if options.device == "cuda" else
                  recorded("every arm can use it; on {gpu}", gpu=named))
    return device, reason


def default_arms(options: BenchConfig, device: Device) -> tuple[BenchConfig, str | None]:
    """The options with the arms that `auto` means on a device, and why there is no second pair on a GPU.

    The second pair is measured beside the first, which alone would tell users of either framework about a setting that
    most of them do not run: convolutions take TF32 unasked in both.
    """
    if options.arms != AUTO:
        return options, None
    # Built anew, because a copy keeps the arms that were worked out before.
    both = BenchConfig(**{**options.model_dump(), "arms": f"{STRICT_PAIR},{TF32_PAIR}"})
    without = None if device == "cpu" else _no_tf32(both)
    if device == "cpu" or without:
        return options.model_copy(update={"arms": STRICT_PAIR}), without
    return both, None


def _no_tf32(both: BenchConfig) -> str | None:
    """Why the default arms on CUDA are the strict pair alone; None where they are not, but those of `both`."""
    try:
        model_paths(both)
    except UsageError:
        return recorded("only the strict float32 pair, because --model-path gives weights arm by arm")
    try:
        require_tf32_switch(tf32=True)
    except UnavailableError as error:
        return recorded("only the strict float32 pair: {error}", error=error)
    found = gpu.capability()
    if found is not None and found >= TF32_CAPABILITY:
        return None
    if found is None:
        return recorded("only the strict float32 pair: TF32 needs compute capability 8.0, that of this GPU cannot be "
                        "read")
    return recorded("only the strict float32 pair: TF32 needs compute capability 8.0, that of this GPU is {capability}",
                    capability=f"{found[0]}.{found[1]}")


def _cuda_fault(sessions: LocalSessions, arm: Arm, runs: str, threads: int) -> str | None:
    """Why an arm, which runs under another name, cannot use CUDA, as its framework says in a worker; None if it can."""
    from harness.processes.session import WorkerFailedError

    with sessions.folder("probe") as folder:
        try:
            with opened(sessions, arm, "cuda", threads, folder, runs):
                return None
        except WorkerFailedError as error:
            return error.message


@contextmanager
def opened(sessions: LocalSessions, arm: Arm, device: Device, threads: int, folder: Path,
           runs: str | None = None) -> Iterator[tuple[Session, Created]]:
    """A worker that belongs to no run, with its framework imported.

    Args:
        sessions: starts it.
        arm: what it runs.
        device: where.
        threads: CPU threads.
        folder: for its log.
        runs: what the arm stands for, where it stands for another.

    Raises:
        WorkerFailedError: it cannot be had.
    """
    from harness.bench import SLOW_LIMIT_S
    from harness.protocol import life

    with sessions.start("A", arm, folder / "worker.log") as session:
        name = runs or arm.name
        session.ask(life.Prewarm(arm=name, device=device), SLOW_LIMIT_S)
        yield session, session.ask(life.Create(arm=name, device=device, threads=threads), SLOW_LIMIT_S)


def own_sampling(weights: Weights, said: Mapping[str, Any]) -> dict[str, Any]:
    """How the weights' own configuration samples them, but for what the user has said."""
    own: dict[str, Any] = weights.config.sample.model_dump(include={"spacing", *SampleConfig.later})
    return {key: value for key, value in own.items() if key not in said}


def check_places(options: BenchConfig) -> None:
    """Refuse folders that a run could not read or write; one that goes on has its own to write to.

    Raises:
        UsageError: the first fault.
    """
    check_root(Path(options.data_root) if options.data_root else None)
    if options.resume is None:
        check_results(Path(options.out))


def given_pair(options: BenchConfig) -> PairFile | None:
    """The user's own models, of which nothing is executed here; None for the U-Net.

    Raises:
        UsageError: the file is not what a pair's file must be.
    """
    return None if options.pair is None else read_pair(Path(options.pair))


def given_weights(options: BenchConfig, said: Mapping[str, Any] | None = None) -> Weights | None:
    """What is sampled from; None for random weights, and where a training makes them.

    Args:
        options: of the run.
        said: what the configuration file says of the sampling; None where that was settled before.

    Raises:
        CheckpointError: they cannot be read.
        UsageError: a part refuses the options, or the weights draw images of different sizes or by different samplers.
    """
    for part in SUITES[options.suite].parts:
        why = part.refusal(options)
        if why is not None:
            raise UsageError(why)
    if not options.model_path:
        return None
    from impls.store.weights import load_weights

    found = [load_weights(path) for path in dict.fromkeys(model_paths(options).values())]
    if len({(one.config.model.image_size, one.config.model.image_channels) for one in found}) > 1:
        raise UsageError(tell("--model-path: the networks draw images of different sizes, which cannot be compared"))
    for other in found[1:]:
        if other.config.diffusion != found[0].config.diffusion:
            raise UsageError(tell(
                "--model-path: {one} and {other} have different diffusions (noise schedule, number of timesteps or "
                "variance), which cannot be compared", one=found[0].path, other=other.path))
    if said is not None:
        _require_one_sampling(found, said)
    return found[0]


def _require_one_sampling(found: Sequence[Weights], said: Mapping[str, Any]) -> None:
    first, *others = found
    for other in others:
        one, another = own_sampling(first, said), own_sampling(other, said)
        for key in sorted(one):
            if one[key] != another[key]:
                raise UsageError(tell(
                    "--model-path: {path} is sampled with {key} {value}, {other} with {another}: set "
                    "experiment.sample.{key} for both in a --config file", path=first.path, key=key, value=one[key],
                    other=other.path, another=another[key]))
