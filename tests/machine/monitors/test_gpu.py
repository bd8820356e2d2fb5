"""The GPU of a run: every row of the table in docs/gpu.md on its machine of eight GPUs, and what follows from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scripted_nvml import ROOT, start

# As docs/gpu.md says: GPU 2 is lost, GPU 3 forbidden, GPU 4 divided into two MIG instances.
MACHINE = {"COUNT": 8, "CLOSED": "2=15,3=4", "MIG": "4=2"}
ASKED = r"""
import json, os, sys
from harness.machine import gpu
from harness.machine import facts
from harness.machine.telemetry import Telemetry
answers = {}
for visible in json.loads(sys.argv[1]):
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible != "unset":
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    environment, telemetry = gpu.environment(os.environ), Telemetry(None, "cuda")
    recorded = facts._Facts()
    facts._gpus(recorded, os.environ.get("CUDA_VISIBLE_DEVICES"))
    seen = {name[4:-5]: recorded.reasons.get(name) for name in recorded.values
            if name.startswith("gpu_") and name.endswith("_name")}
    answers[visible] = {
        "environment": environment, "fault": gpu.chosen(os.environ.get("CUDA_VISIBLE_DEVICES")).fault, "seen": seen,
        "measured": recorded.values["gpu_measured"],
        "monitored": [(one.source, one.static.get("uuid")) for one in telemetry._gpu.sources() if one.available]}
    telemetry.stop()
print(json.dumps(answers))
"""


def table() -> dict[str, tuple[str, str, str]]:
    """Setting -> the GPU that a run takes, the others that are shown, and the refusal."""
    rows = re.findall(r"^\| (unset|`[^`]*`|empty) \| (gpu:[\d.]+)? ?\| ([^|]*?) ?\| ([^|]*?) ?\|$",
                      (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {"" if setting == "empty" else setting.strip("`"): (taken, others, refusal)
            for setting, taken, others, refusal in rows}


TABLE = table()
UUIDS = {"gpu:4.1": "MIG-41000000-fake", "gpu:4.2": "MIG-42000000-fake",
         **{f"gpu:{i}": f"GPU-{i}0000000-fake" for i in range(8)}}
REASONS = {"lost": "GPU is lost", "forbidden": "Insufficient Permissions"}


@pytest.fixture(scope="module")
def answers(library: Path) -> dict:
    return json.loads(start(ASKED, library, json.dumps(list(TABLE)), **MACHINE).stdout)


def test_the_table_has_every_setting_once():
    assert len(TABLE) == 24


@pytest.mark.parametrize("setting", TABLE)
def test_the_gpu_of_a_run(setting, answers):
    (taken, others, refusal), answer = TABLE[setting], answers[setting]
    if not taken:
        assert answer["environment"] == {} and answer["measured"] is None and answer["monitored"] == []
        assert refusal and refusal.strip("`") in answer["fault"]
        return
    uuid = UUIDS[taken]
    assert answer["fault"] is None and refusal == ""
    # Workers, monitors and the record: one and the same.
    assert answer["environment"] == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuid}
    assert answer["monitored"] == [[taken, uuid]]
    assert answer["measured"] == taken.replace(":", "_")
    told = [part.split() for part in others.split(", ")] if others else []
    shown = {name: REASONS[why[0]] if why else None for name, *why in told}
    assert answer["seen"] == {taken[4:]: None, **shown}


CHOSEN = r"""
import json, os
from harness.machine import gpu
choice = gpu.chosen(os.environ.get("CUDA_VISIBLE_DEVICES"))
print(json.dumps([choice.uuid, choice.fault, choice.words, gpu.fault()]))
"""


def chosen(library: Path, **script: object) -> list[str | None]:
    return json.loads(start(CHOSEN, library, **script).stdout)


def test_the_first_that_answers_is_taken_where_nothing_is_said(library):
    assert chosen(library, COUNT=3, CLOSED="0=15")[:2] == ["GPU-10000000-fake", None]
    uuid, fault, words, _ = chosen(library, COUNT=3, CLOSED="0=15,1=15,2=4")
    assert (uuid, words) == (None, "")
    assert fault == ("no GPU can be used: gpu:0: GPU is lost; gpu:1: GPU is lost; gpu:2: Insufficient Permissions")


def test_without_nvml_cuda_decides(library):
    assert chosen(library, INIT_ERROR=9)[:3] == [None, None, ""]


def test_of_unlike_gpus_the_first_by_bus_address_is_taken_and_said(library):
    uuid, _, words, _ = chosen(library, COUNT=2, KINDS="Small GPU,Large GPU")
    assert uuid == "GPU-00000000-fake"
    assert words == ("gpu:0 (Small GPU), not gpu:1 (Large GPU): the first by bus address, CUDA_VISIBLE_DEVICES chooses")
    assert chosen(library, COUNT=2)[2] == "gpu:0 (Fake GPU)"


def test_the_driver_is_asked_about_that_gpu_alone_and_the_variable_stays_as_it_was(library):
    done = start(CHOSEN + "print(os.environ.get('CUDA_VISIBLE_DEVICES'))", library, COUNT=2, TOTAL=2**33,
                 CUDA_VISIBLE_DEVICES="1", FAKE_DRIVER_SAYS=1)
    assert "cuInit sees GPU-10000000-fake\n" in done.stderr
    answer, after = done.stdout.splitlines()
    assert json.loads(answer)[3] is None and after == "1"


@pytest.mark.parametrize(("script", "found"), [
    ({"FAKE_DRIVER_CAPABILITY": 75}, [7, 5]), ({"FAKE_DRIVER_CAPABILITY": 120}, [12, 0]),
    ({"FAKE_DRIVER_INIT": 999}, None)])
def test_compute_capability_is_the_drivers_word(library, script, found):
    source = "import json\nfrom harness.machine import gpu\nprint(json.dumps(gpu.capability()))\n"
    assert json.loads(start(source, library, **script).stdout) == found


NO_FILES = ("there are no device files /dev/nvidia*: give the container the GPU (docker run --gpus all), or load the "
            "driver's kernel module (nvidia-smi does)")


@pytest.mark.parametrize(("script", "line"), [
    ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES is empty, which hides every GPU: unset it, or name one"),
    ({"CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES='7' names no GPU that answers: nvidia-smi -L lists them"),
    ({"COUNT": 0}, "NVML shows no GPU"),
    ({"TOTAL": 80 << 30, "USED": (80 << 30) - (200 << 20)},
     "gpu:0 (Fake GPU) has only 0.20 of 80.0 GiB of memory free: end the programs that hold the rest (nvidia-smi lists "
     "them), or choose another GPU by CUDA_VISIBLE_DEVICES"),
    ({"TOTAL": 80 << 30, "FAKE_DRIVER_INIT": 803}, "the CUDA driver does not start (error 803): the driver's library "
     "and its kernel module are of different versions: restart the machine"),
    ({"INIT_ERROR": 9, "FAKE_DRIVER_INIT": 100}, f"the CUDA driver does not start (error 100): {NO_FILES}"),
    ({"INIT_ERROR": 9, "FAKE_DRIVER_INIT": 999}, f"the CUDA driver does not start (error 999): {NO_FILES}"),
    ({"INIT_ERROR": 9, "CUDA_VISIBLE_DEVICES": ""}, "the CUDA driver does not start (error 100): "
     "CUDA_VISIBLE_DEVICES='' leaves none: unset it, or name one that nvidia-smi -L lists"),
    ({"INIT_ERROR": 9, "FAKE_DRIVER_INIT": 46}, "the CUDA driver does not start (error 46): check nvidia-smi")])
def test_what_keeps_a_run_from_its_gpu_is_one_line(library, script, line):
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has the device files of a GPU")
    assert chosen(library, **script)[3] == line


LOAD = r"""
import json, os
from harness.machine.monitors import nvml
from harness.machine.telemetry import Telemetry, disturbances
nvml.FIRST_PID_NAMESPACE = os.stat("/proc/self/ns/pid").st_ino
os.environ["FAKE_NVML_PIDS"] = str(os.getppid())
print(json.dumps(disturbances(Telemetry(None, "cuda")._gpu.sample(), "cuda")))
"""


@pytest.mark.parametrize(("busy", "visible", "reasons"), [
    (1, "1,0", ["1 other process on gpu:1"]), (0, "1,0", []), (4, "MIG-42", ["1 other process on gpu:4.2"]),
    (1, "MIG-42", [])])
def test_only_load_on_the_run_s_gpu_makes_a_block_dirty(library, busy, visible, reasons):
    done = start(LOAD, library, **MACHINE, BUSY=busy, CUDA_VISIBLE_DEVICES=visible)
    assert json.loads(done.stdout) == reasons


GONE = r"""
import json, os, sys
from harness.machine.telemetry import Telemetry
written = []
class Writer:
    append = staticmethod(written.append)
telemetry = Telemetry(Writer, sys.argv[1])
recorder = telemetry._recorder
recorder._write_changed_states()
recorder._tick()
before = telemetry.disturbances()
os.environ["FAKE_NVML_VANISH_AFTER"] = "0"
for _ in range(2):
    telemetry.mark()
    recorder._tick()
print(json.dumps([before, telemetry.disturbances(), [finding.code for finding in telemetry.findings()],
                  [one.reason for one in written if one.type == "monitor" and not one.available]]))
"""


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_gpu_that_vanishes_makes_every_later_block_dirty(library, device):
    before, after, codes, reasons = json.loads(start(GONE, library, device).stdout)
    assert before == [] and reasons == ["GPU is lost"]
    if device == "cpu":
        assert after == [] and codes == []
    else:
        assert after == ["gpu:0 stopped answering: GPU is lost"] and codes == ["gpu-lost"]
