"""Which comparisons are refused: unlike arms, and an arm that did not stay the same."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.judge.fairness import refusal, unfair, varied
from harness.plan import Comparison
from harness.record.events import ArmEntry, BlockState, EnvironmentRecorded, RunStarted, WorkerStarted
from harness.record.run import RecordedRun
from harness.suites.training import Training
from impls.backend import BackendInfo

INFO = BackendInfo("PyTorch", "2", "cuda", "GPU", "GPU-1", "float32", False, 4)


def test_equal_arms_are_fair():
    assert unfair(INFO, replace(INFO, framework="Jittor", version="1", operators={"a": "b"}), 7, 7) is None


@pytest.mark.parametrize(("change", "named"), [
    ({"device": "cpu"}, "device: cuda against cpu"),
    ({"device_uuid": "GPU-2"}, "device UUID: 1 against 2"),
    ({"device_uuid": None, "device_name": "Other"}, "device name: GPU against Other"),
    ({"dtype": "bfloat16"}, "dtype: float32 against bfloat16"),
    ({"dtype": "float16"}, "dtype: float32 against float16"),
    ({"tf32": True}, "TF32: False against True"),
    ({"threads": 2}, "threads: 4 against 2"),
])
def test_the_field_that_differs_is_named(change, named):
    assert unfair(INFO, replace(INFO, **change), 7, 7) == named


def test_halves_are_compared_with_halves_of_their_kind():
    half = replace(INFO, dtype="float16")
    assert unfair(half, replace(half, framework="Jittor"), 7, 7) is None
    assert unfair(replace(INFO, dtype="bfloat16"), half, 7, 7) == "dtype: bfloat16 against float16"


def test_another_network_is_named():
    assert unfair(INFO, INFO, 35746307, 35746308) == "parameter count: 35746307 against 35746308"


def test_one_gpu_under_two_spellings_is_one_gpu():
    assert unfair(INFO, replace(INFO, device_uuid="1", device_name="gpu 0"), 7, 7) is None


def test_tf32_does_not_matter_on_the_cpu():
    cpu = replace(INFO, device="cpu", device_uuid=None)
    assert unfair(cpu, replace(cpu, tf32=True), 7, 7) is None


def worker(block, arm="B", **change):
    return WorkerStarted(arm=arm, block=block, pid=1, spawn_ns=1, import_ns=1, build_ns=1, first_step_ns=1,
                         first_stamp_ns=1, parameter_count=7, info=asdict(replace(INFO, **change)))


def run_of(*events):
    started = RunStarted(run_id="r", suite="train-speed", started_utc="", command=[], bench={}, experiment={},
                         declared={}, config_sha256="",
                         arms=[ArmEntry(slot="A", name="pytorch"), ArmEntry(slot="B", name="jittor")])
    return RecordedRun(Path("r"), (started, *events))


def two_blocks(between=(), **change):
    """Arm B proves something else in block 1 than in block 0."""
    return run_of(*between[:1], worker(0, "A"), worker(0), BlockState(block=0, order_seed=0, dirty=False),
                  *between[1:], worker(1, "A"), worker(1, **change), BlockState(block=1, order_seed=0, dirty=False))


@pytest.mark.parametrize(("change", "named"), [
    ({"version": "3"}, "version of jittor: 2 in block 0, 3 in block 1"),
    ({"framework": "Other"}, "framework of jittor: PyTorch in block 0, Other in block 1"),
    ({"threads": 2}, "threads of jittor: 4 in block 0, 2 in block 1"),
])
def test_an_arm_that_changed_between_blocks_is_not_compared(change, named):
    run = two_blocks(**change)
    assert varied(run, "B") == named and varied(run, "A") is None
    assert refusal(run, Comparison("A", "B"), Training()) == (unfair(INFO, replace(INFO, **change), 7, 7) or named)
    assert refusal(run, Comparison("B", "B", selfcheck=True), Training()) == named


def test_an_arm_that_stayed_the_same_is_compared():
    assert varied(two_blocks(), "B") is None


def test_a_block_that_is_measured_again_does_not_count():
    run = run_of(worker(0), BlockState(block=0, order_seed=0, dirty=False), worker(1, version="3"))
    assert varied(run, "B") is None


def test_another_environment_that_was_accepted_may_run_another_version():
    here, there = (EnvironmentRecorded(facts={"version_jittor": v}, starred=["version_jittor"]) for v in ("2", "3"))
    assert varied(two_blocks((here, there), version="3"), "B") is None
