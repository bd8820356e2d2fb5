"""Arms that stand for others, such as `pytorch:best`: written out once the device of a run is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.options import BenchConfig
from harness.record.events import Finding
from harness.record.findings import ARM_ALIAS
from impls.devices import bf16_units
from impls.errors import UsageError
from impls.registry import BEST, SAMPLING, Device, Job, leading_arm, parse_arm
from messages import recorded, shown, tell


def aliases(options: BenchConfig, device: Device, job: Job) -> dict[str, str]:
    """Name of an arm as it was asked for -> the arm that runs, of those that stand for another.

    Raises:
        UsageError: what one stands for is not known here, cannot run here, or is another of the arms.
    """
    found = {arm.name: arm.spelled_out(device, job).name for arm in options.compared if BEST in arm.options}
    for name, arm in found.items():
        # Two of one name would be a run of an arm against itself.
        if arm in {other.name for other in options.compared}:
            raise UsageError(tell(
                "--arms {arms}: {name} stands for {arm} here, which is named already ({job} {where}): leave it out",
                arms=options.arms, name=name, arm=arm, job=tell(job), where=shown(_where(device))))
    return found


def written_out(options: BenchConfig, names: Mapping[str, str]) -> BenchConfig:
    """The options with the arms that run, wherever an arm is named."""
    if not names:
        return options
    arms = [names.get(arm.name, arm.name) for arm in map(parse_arm, options.arms.split(","))]
    # Built anew, because a copy keeps the arms that were worked out before.
    return BenchConfig(**{**options.model_dump(), "arms": ",".join(arms),
                          **{field: tuple(_renamed(text, names) for text in getattr(options, field))
                             for field in ("interpreter", "model_path")}})


def findings(names: Mapping[str, str], device: Device, job: Job) -> Sequence[Finding]:
    """What each of them stands for, for the journal and whoever waits."""
    return [ARM_ALIAS.found(_stands_for(name, arm.partition(":")[2], device, job)) for name, arm in names.items()]


def _stands_for(name: str, found: str, device: Device, job: Job) -> str:
    found, where = found or recorded("no option"), _where(device)
    # Each whole: of one sentence with a place for the job too little would be left to know it by.
    return (recorded("{name} = {options}, for sampling {where}", name=name, options=found, where=where)
            if job == SAMPLING else
            recorded("{name} = {options}, for training {where}", name=name, options=found, where=where))


def _where(device: Device) -> str:
    if bf16_units(device):
        return recorded("on CUDA") if device == "cuda" else recorded("on the CPU")
    return (recorded("on CUDA, which has no units for bfloat16") if device == "cuda" else
            recorded("on the CPU, which has no units for bfloat16"))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """`ARM=PATH` with the arm that runs."""
    named = leading_arm(text)
    return text if named is None or named[0].name not in names else f"{names[named[0].name]}={named[1]}"
