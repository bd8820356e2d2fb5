"""Findings: each one appears for its cause and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from harness.machine.counters import process_cpu_ns
from harness.machine.preflight import preflight, unused_gpu
from harness.machine.telemetry import disturbances, during_run
from harness.record.events import EnvironmentRecorded, Sample

GIB = 1 << 30
QUIET = {"load1": 0.1, "cpu_usable": 2, "memory_available_bytes": 20 * GIB, "memory_total_bytes": 24 * GIB,
         "swap_used_bytes": 0, "cpu_governor": "performance", "cpu_limit_cores": None, "python_debug_build": False,
         "python_tracing": False, "gpu_0_foreign_processes": 0}


def codes(**changes: object) -> list[str]:
    findings = preflight(EnvironmentRecorded(facts={**QUIET, **changes}))
    assert all(finding.message and finding.advice for finding in findings)
    return [finding.code for finding in findings]


def test_a_quiet_machine_has_no_findings():
    assert codes() == []


def test_a_machine_that_shows_nothing_has_no_findings():
    assert preflight(EnvironmentRecorded(facts=dict.fromkeys(QUIET))) == []
    assert preflight(EnvironmentRecorded(facts={})) == []


@pytest.mark.parametrize(("changes", "code"), [
    ({"load1": 0.51}, "high-load"),
    ({"memory_available_bytes": 2 * GIB}, "low-memory"),
    ({"memory_total_bytes": 4 * GIB, "memory_available_bytes": GIB - 1}, "low-memory"),
    ({"memory_limit_bytes": GIB // 2}, "low-memory"),
    ({"swap_used_bytes": GIB}, "swap-in-use"),
    ({"cpu_governor": "powersave"}, "governor-powersave"),
    ({"cpu_governor": "performance+powersave"}, "governor-powersave"),
    ({"cpu_limit_cores": 1.5}, "cpu-limit"),
    ({"cpu_limit_cores": 1.5, "threads": 2}, "cpu-limit"),
    ({"env_OMP_NUM_THREADS": "two", "threads": 2}, "threads-setting"),
    ({"env_OMP_NUM_THREADS": "9,1", "threads": 2}, "threads-setting"),
    ({"python_debug_build": True}, "debug-build"),
    ({"python_tracing": True}, "traced"),
    ({"gpu_0_foreign_processes": 2}, "gpu-shared"),
    ({"gpu_measured": "gpu_1", "gpu_1_foreign_processes": 2}, "gpu-shared"),
    ({"gpu_measured": "gpu_1", "gpu_0_name": "Small", "gpu_1_name": "Large"}, "unlike-gpus"),
    ({"env_CUDA_LAUNCH_BLOCKING": "1"}, "debug-switch"),
    ({"env_PYTHONMALLOC": "malloc_debug", "env_debug": "1"}, "debug-switch"),
    ({"clock_source": "hpet"}, "slow-clock"),
])
def test_each_cause_has_its_finding(changes, code):
    assert codes(**changes) == [code]


def test_memory_of_an_unknown_size_is_told_without_it():
    (finding,) = preflight(EnvironmentRecorded(facts={"memory_available_bytes": GIB // 2}))
    assert finding.message == "0.5 GiB of memory are free"


def test_threads_that_are_as_asked_for_and_fit_have_no_finding():
    assert codes(cpu_limit_cores=1.5, threads=1) == []
    assert codes(env_OMP_NUM_THREADS="2,1", threads=2) == []
    assert codes(env_OMP_NUM_THREADS="two", threads=1) == [], "--threads 1"
    facts = {**QUIET, "env_OMP_NUM_THREADS": "99", "threads": 2}
    assert preflight(EnvironmentRecorded(facts=facts), threads_given=True) == [], "--threads 2"


@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_advised_where_there_are_more(threads):
    (finding,) = preflight(EnvironmentRecorded(facts={**QUIET, "load1": 2.0, "threads": threads}))
    assert ("--threads 1" in finding.advice) == (threads > 1)


def test_which_of_unlike_gpus_is_taken_is_said_of_cuda_since_the_run_may_be_on_the_cpu():
    facts = {"gpu_measured": "gpu_1", "gpu_0_name": "Small", "gpu_1_name": "Large"}
    (finding,) = preflight(EnvironmentRecorded(facts=facts))
    assert finding.message.endswith("a run on CUDA takes gpu:1 (Large), not gpu:0 (Small)")


def test_gpus_of_one_kind_and_lost_ones_are_no_finding():
    assert codes(gpu_measured="gpu_0", gpu_0_name="Large", gpu_1_name="Large", gpu_2_name=None) == []


@pytest.mark.parametrize(("asked", "taken", "driver", "said"), [
    ("auto", "cpu", True, True), ("auto", "cpu", False, False), ("cpu", "cpu", True, False),
    ("auto", "cuda", True, False)])
def test_a_gpu_that_auto_leaves_unused_is_a_finding_with_the_reason(asked, taken, driver, said):
    found = unused_gpu(asked, taken, "jittor: no CUDA compiler", driver)
    assert [one.code for one in found] == ["gpu-unused"] * said
    assert all(one.message.endswith("has an NVIDIA driver: jittor: no CUDA compiler") for one in found)


def test_work_of_others_on_a_gpu_that_is_not_measured_is_no_finding():
    assert codes(gpu_measured="gpu_0", gpu_1_foreign_processes=2) == []


def test_switches_that_are_off_and_the_usual_clocks_are_no_findings():
    assert codes(env_CUDA_LAUNCH_BLOCKING="0", env_PYTHONMALLOC="malloc", env_debug="app:*", clock_source="tsc") == []


def test_the_load_is_judged_by_the_processors_that_may_be_used():
    assert codes(load1=3.0, cpu_usable=16) == []
    assert codes(load1=3.0, cpu_usable=None, cpu_logical=2) == ["high-load"]


def gpu(mask: int | None, foreign: int | None = 0) -> Sample:
    return Sample(source="gpu:0", values={"clock_event_reasons": mask, "foreign_processes": foreign})


def host(**values: float) -> Sample:
    return Sample(source="host", values=values)


def test_heat_and_strangers_make_a_block_dirty_on_the_gpu_only():
    hot = [gpu(0)] * 9 + [gpu(0x60)]
    reasons = "heat (driver), heat (hardware)"
    assert disturbances(hot, "cuda") == [f"gpu:0 lowered its clock in 10% of the samples: {reasons}"]
    assert disturbances([gpu(0), gpu(0, 2), gpu(0, 1)], "cuda") == ["2 other processes on gpu:0"]
    assert disturbances([*hot, gpu(0, 2)], "cpu") == []


@pytest.mark.parametrize("samples", [[], [gpu(0)], [gpu(None, None)], [gpu(0x1)], [gpu(0x4)], [gpu(0)] * 20 + [gpu(8)]])
def test_idling_the_power_limit_and_a_single_sample_do_not(samples):
    assert disturbances(samples, "cuda") == []


def test_the_run_as_a_whole():
    samples = [host(cpu_frequency_mhz=3000, swap_used_bytes=0), host(swap_used_bytes=GIB),
               host(cpu_frequency_mhz=2600), gpu(4), gpu(0x44)]
    found = {finding.code: finding for finding in during_run(samples, "cuda")}
    assert set(found) == {"cpu-frequency-drift", "swapping", "gpu-disturbed", "gpu-power-limited"}
    assert "2600 and 3000 MHz" in found["cpu-frequency-drift"].message
    assert found["gpu-power-limited"].severity == "info"
    assert {finding.code for finding in during_run(samples, "cpu")} == {"cpu-frequency-drift", "swapping"}
    assert during_run([host(cpu_frequency_mhz=3000), host(cpu_frequency_mhz=2900)], "cuda") == []


def test_memory_that_nearly_ran_out():
    (finding,) = during_run([host(memory_available_bytes=9 * GIB), host(memory_available_bytes=GIB // 4)], "cpu")
    assert finding.code == "memory-nearly-full" and "0.25 GiB" in finding.message and finding.advice
    assert during_run([host(memory_available_bytes=GIB // 2)], "cpu") == []


def test_the_cpu_time_of_another_process_is_read_exactly():
    child = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass\n"
                              "print(time.process_time_ns(), flush=True)\ninput()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        own_ns = int(child.stdout.readline())
        seen_ns = process_cpu_ns(child.pid)
        child.communicate("\n")
    assert own_ns <= seen_ns < own_ns + 0.2e9
    assert process_cpu_ns(child.pid) is None


def test_the_cpu_time_of_this_process_is_its_own_clock():
    before = time.process_time_ns()
    seen = process_cpu_ns(os.getpid())
    assert before <= seen <= time.process_time_ns()
    assert process_cpu_ns(0) is None
    assert process_cpu_ns(-1) is None
