"""Which device all arms run on: CUDA only when every one of them can use it, and never different ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from impls.errors import UnavailableError, UsageError
from impls.registry import Arm, Device

if TYPE_CHECKING:
    from harness.processes.workers import LocalSessions

Probe = Callable[[Arm], str | None]


def resolve(choice: str, arms: Sequence[Arm], driver_fault: Callable[[], str | None],
            probe: Probe) -> tuple[Device, str]:
    """The device for all arms, with the reason.

    Args:
        choice: "auto", "cpu" or "cuda".
        arms: what is compared.
        driver_fault: why there is no CUDA here at all, found without a framework; None when there may be.
        probe: asks an arm's framework why it cannot use CUDA; None when it can.

    Raises:
        UnavailableError: "cuda" was asked for and an arm cannot use it.
    """
    if choice == "cpu":
        return "cpu", "as asked"
    for arm in dict.fromkeys(arms):
        fault = arm.device_fault("cuda") or driver_fault() or probe(arm)
        if fault is None:
            continue
        reason = fault if fault.startswith(arm.name) else f"{arm.name}: {fault}"
        if choice == "cuda":
            raise UnavailableError(f"--device cuda: {reason}: choose --device cpu or leave this arm out")
        return "cpu", f"not every arm can use CUDA here: {reason}"
    return "cuda", "as asked" if choice == "cuda" else "every arm can use it"


def probe_with(sessions: LocalSessions, threads: int, say: Callable[[str], None]) -> Probe:
    """A probe that starts a short-lived worker of the arm and has its framework open the device."""
    from harness.bench import SLOW_LIMIT_S
    from harness.processes.session import WorkerFailedError
    from harness.protocol import life

    def probe(arm: Arm) -> str | None:
        say(f"asking {arm.name} whether it can use CUDA")
        with sessions.folder("probe") as folder:
            try:
                with sessions.start("A", arm, folder / "probe.log") as session:
                    session.ask(life.Prewarm(arm=arm.name, device="cuda"), SLOW_LIMIT_S)
                    session.ask(life.Create(arm=arm.name, device="cuda", threads=threads), SLOW_LIMIT_S)
            except WorkerFailedError as error:
                return error.message
        return None

    return probe


def check_data(batch_size: int, images: int, image_shape: Sequence[int], model_shape: Sequence[int]) -> None:
    """Refuse data that the experiment cannot train on.

    Raises:
        UsageError: the batch is larger than the data set, or the images do not have the network's shape.
    """
    if batch_size > images:
        raise UsageError(f"--batch-size {batch_size}: the data set has only {images} images: choose at most {images}")
    if list(image_shape) != list(model_shape):
        raise UsageError(
            f"the data set's images are {'x'.join(map(str, image_shape))}, the network's are "
            f"{'x'.join(map(str, model_shape))}: choose another data set or another model.image_size")
