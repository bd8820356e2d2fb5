"""Which runs must not be compared: every field is named; software is what a comparison is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from light_runs import EXPERIMENT, FACTS, INFO, Light, altered, write

from impls.errors import UsageError
from reports.compare.runs import Comparison, compare

SMALL: dict[str, Any] = {"blocks": 3, "pairs": 2}


def pair(
    folder: Path, changes: dict[str, Any], allow: bool = False, before: dict[str, Any] | None = None
) -> Comparison:
    one = write(folder / "a", Light(seed=1, **SMALL, **(before or {})))
    return compare([one, write(folder / "b", Light(seed=2, **SMALL, **changes))], allow_env_change=allow)


def experiment(**changes: Any) -> dict[str, Any]:
    return {"experiment": altered(EXPERIMENT, **changes)}


def info(**changes: Any) -> dict[str, Any]:
    return {"info": altered(INFO, **changes)}


REFUSED = {
    "preset: tiny against ddpm": experiment(preset="ddpm"),
    "model: base channels: 32 against 64": experiment(model__base_channels=64),
    "model: channels: 32, 64 against 32": experiment(model__channels=[32]),
    "model: head channels: not recorded against 8": experiment(model__head_channels=8),
    "diffusion: T: 1000 against 10": experiment(diffusion__T=10),
    "train: batch size: 8 against 16": experiment(train__batch_size=16),
    "train: loader: resident against native": experiment(train__loader="native"),
    "data set: digits against cifar10": {"data": ("cifar10", "ab" * 32)},
    "data set's SHA-256: abab": {"data": ("digits", "cd" * 32)},
    "data set: digits against not recorded": {"data": None},
    "schedule: resident against sequential": {"schedule": "sequential"},
    "suite: train-speed against sample-speed": {"cells": ("ddim-10",)},
    "device of jittor: cpu against cuda": info(device="cuda"),
    "device name of jittor: Imaginary CPU against Other": info(device_name="Other"),
    "dtype of jittor: float32 against bfloat16": info(dtype="bfloat16"),
    "threads of jittor: 2 against 4": info(threads=4),
    "parameter count of jittor: 1234 against 99": {"parameters": 99},
    "parity: passed against failed (gradient differs)": {"parity": False},
}


@pytest.mark.parametrize("field", REFUSED)
def test_unfair_pairs_are_refused_with_the_field_named_whatever_is_allowed(field: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        pair(tmp_path, REFUSED[field], allow=True)
    assert field in str(refusal.value) and "\n" not in str(refusal.value)
    assert "cannot be compared with" in str(refusal.value)


def test_a_later_setting_at_its_default_is_as_none(tmp_path: Path) -> None:
    """Older records have no such setting, newer ones leave it out at its default."""
    later = experiment(model__head_channels=None, model__time_scale_shift=False, model__time_frequency_shift=1.0)
    assert not pair(tmp_path, later).pairs[0].differences


def test_tf32_counts_on_a_gpu_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TF32 of jittor: off against on"):
        pair(tmp_path / "gpu", info(device="cuda", tf32=True), before=info(device="cuda"))
    assert not pair(tmp_path / "cpu", info(tf32=True)).pairs[0].differences


def test_the_batch_of_sampling_counts_where_the_runs_sample(tmp_path: Path) -> None:
    cells = {"cells": ("ddim-10",)}
    with pytest.raises(UsageError, match="sample: batch size: 4 against 8"):
        pair(tmp_path / "1", {**experiment(sample__batch_size=8), **cells}, before=cells)
    assert pair(tmp_path / "2", {**experiment(train__batch_size=99), **cells}, before=cells).words
    assert pair(tmp_path / "3", experiment(sample__batch_size=8)).words


MACHINE = {
    "cpu_model: Imaginary CPU against Another": {"facts": {**FACTS, "cpu_model": "Another"}},
    "cpu_logical: 2 against 64": {"facts": {**FACTS, "cpu_logical": 64}},
    "cpu_logical: 2 against not recorded": {"facts": {k: v for k, v in FACTS.items() if k != "cpu_logical"}},
    "device UUID of jittor: 1 against 2": info(device_uuid="GPU-2"),
}


@pytest.mark.parametrize("field", MACHINE)
def test_another_machine_is_refused_unless_allowed_and_then_marked(field: str, tmp_path: Path) -> None:
    before = info(device_uuid="1") if "UUID" in field else None
    with pytest.raises(UsageError, match="--allow-env-change") as refusal:
        pair(tmp_path, MACHINE[field], before=before)
    assert field in str(refusal.value)
    found = compare([tmp_path / "a", tmp_path / "b"], allow_env_change=True)
    assert field in {str(one) for one in found.pairs[0].allowed}


def test_every_environment_of_a_run_counts(tmp_path: Path) -> None:
    """The later run began on another machine and went on, as was allowed, on this one."""
    def moved(text: str) -> str:
        lines = text.splitlines(keepends=True)
        here = next(line for line in lines if '"type":"environment"' in line)
        cut = next(i for i, line in enumerate(lines) if '"type":"block"' in line) + 1
        before = "".join(lines[:cut]).replace('"cpu_model":"Imaginary CPU"', '"cpu_model":"Another"')
        return before + here + "".join(lines[cut:])

    runs = [write(tmp_path / "a", Light(seed=1, **SMALL)), write(tmp_path / "b", Light(seed=2, **SMALL), moved)]
    with pytest.raises(UsageError, match="cpu_model: Imaginary CPU against Another and Imaginary CPU"):
        compare(runs)
    assert compare(runs, allow_env_change=True).pairs[0].allowed


ALLOWED = {
    "version_torch: 2.14.1 against 3.0": ("software", {"facts": {**FACTS, "version_torch": "3.0"}}),
    "python: 3.11.7 against 3.12.1": ("software", {"facts": {**FACTS, "python": "3.12.1"}}),
    "gpu_driver: not recorded against 999": ("software", {"facts": {**FACTS, "gpu_driver": "999"}}),
    "git_commit: abc against def": ("software", {"facts": {**FACTS, "git_commit": "def"}}),
    "version of jittor: 2.14.1 against 3.0": ("software", info(version="3.0")),
    "operator attention of jittor: sdpa against ours": ("software", info(operators__attention="ours")),
    "flag compile of jittor: eager against not recorded": ("software", info(flags={})),
    "kernel: 6.1 against 7.0": ("other", {"facts": {**FACTS, "kernel": "7.0"}}),
    "train: lr: 0.0002 against 0.1": ("other", experiment(train__lr=0.1)),
    "seed: 0 against 5": ("other", experiment(seed=5)),
    "model: dropout: not recorded against 0.1": ("other", experiment(model__dropout=0.1)),
    "suite: train-speed against all": ("other", {"suite": "all"}),
    "arms measured together: jittor, pytorch against pytorch": ("other", {"arms": (("pytorch", 100.0),)}),
}


@pytest.mark.parametrize("field", ALLOWED)
def test_what_is_under_test_and_what_costs_no_time_is_compared_and_listed(field: str, tmp_path: Path) -> None:
    role, changes = ALLOWED[field]
    found = pair(tmp_path, changes).pairs[0].differences
    assert role in {one.role for one in found if str(one) == field}


def test_what_moves_by_itself_is_not_listed(tmp_path: Path) -> None:
    assert pair(tmp_path, {"facts": {**FACTS, "load1": 9.0, "gpu_0_temperature_c": 80}}).pairs[0].differences == ()


def test_a_missing_environment_is_not_taken_for_an_equal_one(tmp_path: Path) -> None:
    one = write(tmp_path / "a", Light(seed=1, **SMALL))

    def without(text: str) -> str:
        return "".join(line for line in text.splitlines(True) if '"environment"' not in line)

    other = write(tmp_path / "b", Light(seed=2, **SMALL), without)
    with pytest.raises(UsageError, match="environment: recorded against not recorded"):
        compare([one, other])


def test_many_faults_make_one_line_without_control_characters(tmp_path: Path) -> None:
    changes = {**experiment(preset="\x1b[31m\nx", train__batch_size=1, diffusion__T=1, model__base_channels=1,
                            model__channels=[1], train__loader="n")}  # fmt: skip
    with pytest.raises(UsageError, match="and 2 more") as refusal:
        pair(tmp_path, changes)
    assert "\n" not in str(refusal.value) and "\x1b" not in str(refusal.value)
