"""The NVML monitor through the real bindings against a scripted library, compiled here and loaded in a subprocess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_nvml import start

from harness.record.events import MonitorState, Sample

POLL = r"""
import json, os, subprocess, sys
from harness.machine.monitors import nvml
namespace = os.environ.get("NAMESPACE")
if namespace:
    nvml.FIRST_PID_NAMESPACE = os.stat("/proc/self/ns/pid").st_ino if namespace == "host" else 0
monitor = nvml.open_nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
monitor.set_processes({"A": os.getpid()})
pids = {"own": os.getpid(), "child": child.pid, "stranger": os.getppid(), "ended": 2**22 + 1}
names = filter(None, os.environ.get("FAKE_NVML_PIDS", "").split(","))
os.environ["FAKE_NVML_PIDS"] = ",".join(str(pids[name]) for name in names)
polls = []
for _ in range(int(os.environ.get("POLLS", "1"))):
    before = monitor.energy_mj() if "ENERGY" in os.environ else None
    samples = [sample.model_dump() for sample in monitor.sample()]
    polls.append({"samples": samples, "states": [state.model_dump() for state in monitor.sources()], "energy": before})
monitor.close()
child.communicate(b"\n")
print(json.dumps(polls))
"""


class Polls(list):
    """The polls of one subprocess, and what it wrote to stderr."""

    stderr = ""


def run(folder: Path | None, **script: object) -> Polls:
    done = start(POLL, folder, **script)
    polls = Polls(json.loads(done.stdout))
    polls.stderr = done.stderr
    for poll in polls:
        for sample in poll["samples"]:
            Sample.model_validate(sample)
        for state in poll["states"]:
            MonitorState.model_validate(state)
    return polls


def only(items: list) -> dict:
    assert len(items) == 1
    return items[0]


def test_every_reading_arrives_in_its_unit(library):
    polls = run(library, UTILISATION="1;20,40", THROTTLE="0x24", PIDS="own,child,stranger", NAMESPACE="host")
    sample = only(polls[0]["samples"])
    assert sample["source"] == "gpu:0"
    assert sample["t_ns"] > 0
    assert sample["values"] == {
        "utilisation_percent": 30.0, "utilisation_min_percent": 20, "utilisation_max_percent": 40,
        "memory_used_bytes": 600, "power_mw": 350_000, "sm_clock_mhz": 1700, "memory_clock_mhz": 2600,
        "temperature_c": 61, "energy_mj": 1000, "clock_event_reasons": 0x24, "power_violation_ns": 5000,
        "thermal_violation_ns": 5001, "processes": 3, "foreign_processes": 1}
    state = only(polls[0]["states"])
    assert state["available"]
    assert state["reason"] is None
    assert state["static"] == {
        "cuda_ordinal": 0, "uuid": "GPU-00000000-fake", "name": "Fake GPU", "driver": "560.35.03",
        "cuda_driver": "12.6", "memory_total_bytes": 1000, "power_limit_mw": 700_000, "max_sm_clock_mhz": 1981,
        "ecc": "on"}
    assert "shut down" in polls.stderr


@pytest.mark.parametrize("stale", [0, 1])
def test_the_ring_buffer_gives_each_reading_once_and_leaves_out_the_time_before(library, stale):
    polls = run(library, UTILISATION="99,98;10;20,40", POLLS=3, STALE=stale)
    values = [only(poll["samples"])["values"] for poll in polls]
    assert [value["utilisation_percent"] for value in values] == [10, 30, 37]
    assert "utilisation_min_percent" not in values[2], "without a new reading the driver's current rate stands in"


def test_without_a_ring_buffer_the_rate_is_polled(library):
    polls = run(library)
    assert only(polls[0]["samples"])["values"]["utilisation_percent"] == 37
    assert only(polls[0]["states"])["reason"] is None


def test_a_ring_buffer_of_another_type_is_not_misread(library):
    polls = run(library, UTILISATION="1;20", VALUE_TYPE=0)
    assert only(polls[0]["samples"])["values"]["utilisation_percent"] == 37


def test_what_a_device_does_not_support_is_none_with_the_reason_once(library):
    polls = run(library, POLLS=2, ERRORS="nvmlDeviceGetPowerUsage=3,nvmlDeviceGetTotalEnergyConsumption=3", ENERGY=1)
    for poll in polls:
        values = only(poll["samples"])["values"]
        assert (values["power_mw"], values["energy_mj"], poll["energy"]) == (None, None, {"gpu:0": None})
        assert values["temperature_c"] == 61
        state = only(poll["states"])
        assert state["available"]
        assert state["reason"] == "energy_mj: Not Supported; power_mw: Not Supported"
    assert polls[0]["states"] == polls[1]["states"]


def test_a_missing_permission_and_an_unknown_error_are_none_too(library):
    errors = "nvmlDeviceGetViolationStatus=4,nvmlDeviceGetTemperature=999,nvmlDeviceGetClockInfo=4242"
    polls = run(library, ERRORS=errors)
    values = only(polls[0]["samples"])["values"]
    assert values["power_violation_ns"] is values["temperature_c"] is values["sm_clock_mhz"] is None
    assert "temperature_c: Unknown Error" in only(polls[0]["states"])["reason"]
    assert "sm_clock_mhz: Scripted Error" in only(polls[0]["states"])["reason"]


def test_facts_that_cannot_be_read_are_none(library):
    polls = run(library, ERRORS="nvmlDeviceGetEccMode=3,nvmlDeviceGetEnforcedPowerLimit=3")
    state = only(polls[0]["states"])
    assert state["static"]["ecc"] is state["static"]["power_limit_mw"] is None
    assert "ecc: Not Supported" in state["reason"]


def test_an_old_driver_names_clock_events_throttle_reasons(library):
    polls = run(library, ERRORS="nvmlDeviceGetCurrentClocksEventReasons=13")
    assert only(polls[0]["samples"])["values"]["clock_event_reasons"] == 0x40


def test_the_energy_counter_is_read_as_it_stands(library):
    polls = run(library, POLLS=2, ENERGY=1, ENERGY_STEP=2**40)
    assert polls[0]["energy"] == {"gpu:0": 2**40}
    assert polls[1]["energy"] == {"gpu:0": 3 * 2**40}


def test_a_device_that_vanishes_ends_its_samples_and_nothing_else(library):
    polls = run(library, COUNT=2, POLLS=3, VANISH_AFTER=30, ENERGY=1)
    assert [len(poll["samples"]) for poll in polls] == [2, 0, 0]
    for state in polls[2]["states"]:
        assert not state["available"]
        assert state["reason"] == "GPU is lost"
    assert polls[2]["energy"] == {"gpu:0": None, "gpu:1": None}


def test_a_device_that_vanishes_in_the_middle_of_a_sample_gives_no_half_of_one(library):
    polls = run(library, POLLS=2, VANISH_AFTER=6)
    assert [poll["samples"] for poll in polls] == [[], []]
    assert [only(poll["states"])["reason"] for poll in polls] == ["GPU is lost"] * 2


def test_a_device_of_which_nothing_can_be_read_any_more_is_unavailable(library):
    every = ["Samples", "UtilizationRates", "MemoryInfo", "PowerUsage", "ClockInfo", "Temperature",
             "TotalEnergyConsumption", "CurrentClocksEventReasons", "ViolationStatus", "ComputeRunningProcesses_v3"]
    polls = run(library, ERRORS=",".join(f"nvmlDeviceGet{name}=999" for name in every))
    assert polls[0]["samples"] == []
    state = only(polls[0]["states"])
    assert (state["available"], state["reason"]) == (False, "Unknown Error")


def test_a_mig_instance_gives_memory_and_processes_and_says_why_the_rest_is_none(library):
    polls = run(library, MIG="0=2", CUDA_VISIBLE_DEVICES="MIG-02", POLLS=2, PIDS="own,stranger", NAMESPACE="host",
                UTILISATION="1;20", ENERGY=1)
    for poll in polls:
        values, state = only(poll["samples"])["values"], only(poll["states"])
        told = {name for name, value in values.items() if value is not None}
        assert told == {"memory_used_bytes", "processes", "foreign_processes"}
        assert (values["foreign_processes"], poll["energy"]) == (1, {"gpu:0.2": None})
        assert (state["source"], state["available"]) == ("gpu:0.2", True)
        assert state["static"]["name"] == "Fake GPU MIG 1g.10gb" and state["static"]["uuid"] == "MIG-02000000-fake"
        for name in ("utilisation_percent", "power_mw", "energy_mj", "ecc"):
            assert f"{name}: NVML does not give it for a MIG instance" in state["reason"]
    assert polls[0]["states"] == polls[1]["states"]


@pytest.mark.parametrize(("visible", "sources"), [
    ("1", ["gpu:1"]), ("2,0", ["gpu:2", "gpu:0"]), ("GPU-1", ["gpu:1"]), ("GPU-20000000-fake,1", ["gpu:2", "gpu:1"])])
def test_cuda_visible_devices_by_index_and_uuid(library, visible, sources):
    polls = run(library, COUNT=3, CUDA_VISIBLE_DEVICES=visible)
    assert [sample["source"] for sample in polls[0]["samples"]] == sources
    assert [state["static"]["cuda_ordinal"] for state in polls[0]["states"]] == list(range(len(sources)))
    assert [sample["values"]["power_mw"] - 350_000 for sample in polls[0]["samples"]] == [int(s[4:]) for s in sources]


def test_a_lost_and_a_forbidden_gpu_hide_no_healthy_one(library):
    polls = run(library, COUNT=8, CLOSED="0=15,3=4")
    states = {state["source"]: state for state in polls[0]["states"]}
    assert [source for source, state in states.items() if not state["available"]] == ["gpu:0", "gpu:3"]
    assert (states["gpu:0"]["reason"], states["gpu:3"]["reason"]) == ("GPU is lost", "Insufficient Permissions")
    assert [sample["source"] for sample in polls[0]["samples"]] == [f"gpu:{i}" for i in (1, 2, 4, 5, 6, 7)]


@pytest.mark.parametrize(("script", "reason"), [
    ({"MIG": "0=0"}, "no GPU can be used: gpu:0: it is in MIG mode and has no instance (nvidia-smi mig makes one)"),
    ({"COUNT": 0}, "NVML shows no GPU"),
    ({"INIT_ERROR": 9}, "NVML does not start: Driver Not Loaded"),
    ({"INIT_ERROR": 18}, "NVML does not start: RM has detected an NVML/RM version mismatch."),
    ({"ERRORS": "nvmlDeviceGetHandleByIndex_v2=15"}, "no GPU can be used: gpu:0: GPU is lost"),
    ({"ERRORS": "nvmlDeviceGetCount_v2=999"}, "no GPU can be opened: Unknown Error"),
])
def test_no_device_is_a_null_object_with_the_reason(library, script, reason):
    polls = run(library, ENERGY=1, **script)
    state = only(polls[0]["states"])
    assert (state["source"], state["available"], state["reason"]) == ("gpu", False, reason)
    assert (polls[0]["samples"], polls[0]["energy"]) == ([], {})


def test_no_library_is_a_null_object_with_the_reason(tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    state = only(run(tmp_path)[0]["states"])
    assert state["reason"] == "NVML does not start: NVML Shared Library Not Found"


@pytest.mark.parametrize(("namespace", "pids", "foreign"), [
    ("host", "own,child", 0), ("host", "own,stranger", 1), ("host", "child,ended", 0),
    # In a container the numbers mean nothing, the process and its child make two.
    ("container", "stranger,stranger", 0), ("container", "stranger,ended,stranger", 1), ("container", "", 0)])
def test_foreign_processes_by_number_on_the_host_and_by_count_in_a_container(library, namespace, pids, foreign):
    values = only(run(library, PIDS=pids, NAMESPACE=namespace)[0]["samples"])["values"]
    assert (values["processes"], values["foreign_processes"]) == (len(list(filter(None, pids.split(",")))), foreign)
