"""The GPU check with scripted commands: each part costs its own line, and what is done is not done again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.gpucheck import check as checking
from harness.gpucheck.check import Check
from harness.gpucheck.parts import Part, all_parts, probe_of
from harness.options import experiment, parse
from harness.part import Asked
from harness.plan import make_plans
from harness.progress import Progress
from harness.record.events import ArmEntry, BlockState, EnvironmentRecorded, RunStarted, Verdict
from harness.record.run import read_run
from harness.record.writer import RunWriter
from impls.errors import UsageError
from impls.tools.train import options as train_options

ROOT = Path(__file__).parents[2]
# Leaves a run folder: two blocks ended by the time limit, readings of the GPU, and what else is asked for.
RUN = """
import sys
from pathlib import Path
from harness.record.events import ArmEntry, BlockState, Case, RunStarted, Sample
from harness.record.findings import TIME_LIMIT
from harness.record.writer import RunWriter
writer = RunWriter.create(Path(sys.argv[1]), "x")
for number in range(int(sys.argv[2])):
    writer.append(BlockState(block=number, order_seed=0, dirty=False, reasons=[]))
for power in (100_000, 300_000):
    writer.append(Sample(source="gpu:1", t_ns=1, values=dict(power_mw=power, utilisation_percent=None)))
writer.append(TIME_LIMIT.found("the time limit ended it"))
if len(sys.argv) > 3:
    writer.append(Case(case_id="block-0-B", arm="B", block=0, status="failed", reason=sys.argv[3]))
writer.close()
sys.exit(1)
"""


@pytest.fixture
def machine(monkeypatch):
    """The facts of a machine, as they are told to every check from now on."""
    facts = {"gpu_measured": "gpu_1", "gpu_1_uuid": "GPU-1", "version_torch": "2.0", "source_sha256": "a"}
    monkeypatch.setattr(checking, "capture", lambda: EnvironmentRecorded(facts=facts, reasons={}, starred=[]))
    return facts


def part(name: str, program: str, *words: str, **more) -> Part:
    return Part(name, f"what {name} does", shlex.join(["-c", program]) + "".join(f" {word}" for word in words), **more)


def check(folder: Path, *parts: Part, progress: Progress | None = None) -> tuple[int, dict[str, dict], str]:
    code = Check(folder, progress or Progress(quiet=True), {**os.environ, "PYTHONPATH": str(ROOT)}).run(parts)
    told = {path.stem: json.loads(path.read_text()) for path in (folder / "parts").glob("*.json")}
    return code, told, (folder / "summary.md").read_text()


def test_each_failing_part_costs_its_own_line(machine, tmp_path):
    code, told, page = check(
        tmp_path / "evidence", part("good", "print('noise'); print('5 passed in 1 s')"),
        part("refused", "import sys; print('x.py: error: GPU 0 is too old', file=sys.stderr); sys.exit(2)"),
        part("full", "import sys; print('/usr/bin/ld: final link failed: No space left on device\\nbye'); sys.exit(3)"),
        part("odd", "import sys; sys.exit(4)"), part("late", "import time; time.sleep(600)", limit_s=0.1))
    assert code == 1
    assert {name: (one["status"], one["told"]) for name, one in told.items()} == {
        "good": ("done", "5 passed in 1 s"), "refused": ("failed", "exit status 2: x.py: error: GPU 0 is too old"),
        "full": ("failed", "exit status 3: /usr/bin/ld: final link failed: No space left on device: make room on the "
                 "disk"), "odd": ("failed", "exit status 4: no word"), "late": ("failed", "it took too long")}
    assert "| good | done |" in page and "- version_torch: 2.0" in page and "GPU-1" in page
    assert "## full\n\n```\n/usr/bin/ld" in page and "## good" not in page
    assert check(tmp_path / "all good", part("good", "print('ok')"))[0] == 0


def test_arms_whose_probe_fails_are_left_out_of_what_follows(machine, tmp_path):
    echo = "import sys; print(sys.argv[1])"
    _, told, page = check(
        tmp_path, part(probe_of("a:x"), "pass"), part(probe_of("b"), "import sys; sys.exit(2)"),
        part("both", echo, "{arms}", arms=("a:x", "b")), part("none", echo, "{arms}", arms=("b", "unknown")))
    assert told["both"]["told"] == "a:x" and told["both"]["status"] == "done"
    assert (told["none"]["status"], told["none"]["told"]) == ("skipped", "none of its arms works")
    assert "logs/both.log" in page and "logs/none.log" not in page


def test_a_part_has_settings_of_its_own(machine, tmp_path):
    told = check(tmp_path, part("one", "import os; print(os.environ['WIDTH'])", settings={"WIDTH": "7"}),
                 part("two", "import os; print(os.environ.get('WIDTH'))"))[1]
    assert (told["one"]["told"], told["two"]["told"]) == ("7", "None")
    # As a person can type it; with other settings it is another part.
    assert told["one"]["command"][:3] == ["env", "WIDTH=7", sys.executable]
    assert told["two"]["command"][0] == sys.executable


def test_a_crash_is_told_by_its_name_and_by_pythons_own_stack(machine, tmp_path):
    crash = "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()"
    _, told, page = check(tmp_path, part("crash", crash))
    assert told["crash"]["told"] == "exit status -11: Fatal Python error: Segmentation fault"
    assert "Current thread" in page and 'File "<string>", line 1' in page


def test_what_is_done_is_not_done_again_and_what_failed_is(machine, tmp_path):
    count = "import sys; f = open(sys.argv[1], 'a'); print(file=f); f.close(); sys.exit(int(sys.argv[2]))"
    marks = [tmp_path / name for name in ("good", "bad")]
    parts = [part(mark.name, count, str(mark), str(number)) for number, mark in enumerate(marks)]
    evidence = tmp_path / "evidence"
    for _ in range(2):
        assert check(evidence, *parts)[0] == 1
    assert [len(mark.read_text()) for mark in marks] == [1, 2]
    # Another version of the program is another measurement.
    machine["source_sha256"] = "b"
    check(evidence, *parts)
    assert [len(mark.read_text()) for mark in marks] == [2, 3]
    (evidence / "parts" / "good.json").write_text("{half")
    check(evidence, *parts)
    assert [len(mark.read_text()) for mark in marks] == [3, 4]
    # So is another driver or library.
    machine["version_torch"] = "2.1"
    check(evidence, *parts)
    assert [len(mark.read_text()) for mark in marks] == [4, 5]


def test_a_run_whose_folder_is_gone_is_run_again(machine, tmp_path):
    one = part("run", RUN, "{out}", "2")
    first = check(tmp_path, one)[1]["run"]["run"]
    assert check(tmp_path, one)[1]["run"]["run"] == first
    shutil.rmtree(tmp_path / "runs")
    _, told, page = check(tmp_path, one)
    assert told["run"]["status"] == "done" and "| run | gpu:1 | 2 |" in page
    assert (tmp_path / told["run"]["run"] / "journal.jsonl").exists()


def test_ctrl_c_ends_the_command_and_what_was_done_stays(machine, tmp_path):
    class Impatient(Progress):
        def tick(self, text: str, seconds: float) -> None:
            raise KeyboardInterrupt

    wait = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    pid = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        check(tmp_path / "e", part("first", "pass"), part("long", wait, str(pid)), progress=Impatient(quiet=True))
    assert not Path("/proc", pid.read_text()).exists()
    assert (tmp_path / "e" / "parts" / "first.json").exists() and "| first | done |" in (
        tmp_path / "e" / "summary.md").read_text()


def test_ctrl_c_at_once_ends_the_command_too(machine, tmp_path, monkeypatch):
    done = []

    class Fresh:
        def wait(self, seconds: float) -> None:
            done.append(seconds)
            if len(done) == 1:
                raise KeyboardInterrupt

        def ask_to_end(self) -> None:
            done.append("asked")

        def kill(self) -> None:
            done.append("killed")

    monkeypatch.setattr(checking, "launch", lambda *words: Fresh())
    with pytest.raises(KeyboardInterrupt):
        check(tmp_path, part("long", "pass"))
    assert done == [1.0, "asked", checking.STOP_S, "killed"]


@pytest.mark.parametrize(("precision", "status", "told"), [
    ("float32", "failed", "x and y: device UUID: 1 against 2"),
    (None, "done", "blocks measured: 1; step time: x / y 1.200 (not comparable)")])
def test_arms_of_one_format_that_may_not_be_compared_are_a_failure(tmp_path, precision, status, told):
    writer = RunWriter.create(tmp_path, "x")
    writer.append(RunStarted(
        run_id="r", suite="train-speed", started_utc="now", command=[], bench={}, experiment={}, config_sha256="0",
        declared={}, arms=[ArmEntry(slot="A", name="x"), ArmEntry(slot="B", name="y")]))
    writer.append(BlockState(block=0, order_seed=0, dirty=False))
    writer.append(Verdict(metric="step time", arm_a="A", arm_b="B", ratio=1.2, ci_low=None, ci_high=None, blocks=1,
                          word="not-comparable", reason="device UUID: 1 against 2", precision=precision))
    writer.close()
    assert checking._outcome(0, tmp_path / "log", read_run(writer.path)) == (status, told)


@pytest.mark.parametrize(("blocks", "fault", "status", "told"), [
    (2, "", "done", "blocks measured: 2"), (0, "", "failed", "its time limit came before the first block ended"),
    (1, "unspecified launch failure", "failed", "block-0-B: unspecified launch failure")])
def test_a_run_that_its_time_limit_ends_is_done_and_tells_its_telemetry(
        machine, tmp_path, blocks, fault, status, told):
    words = ["{out}", str(blocks), *([shlex.quote(fault)] if fault else [])]
    _, results, page = check(tmp_path, part("run", RUN, *words))
    assert (results["run"]["status"], results["run"]["told"]) == (status, told)
    assert "| run | gpu:1 | 2 | n/a | 200.0 | n/a |" in page
    assert (tmp_path / results["run"]["run"] / "journal.jsonl").exists()


def test_evidence_of_another_gpu_is_left_alone(machine, tmp_path):
    check(tmp_path, part("good", "print('ok')"))
    machine["gpu_1_uuid"] = "GPU-2"
    with pytest.raises(UsageError, match=r"another GPU \(GPU-1, not GPU-2\): move it away"):
        check(tmp_path, part("good", "print('ok')"))


def test_without_a_gpu_it_is_one_line_and_nothing_is_left(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "harness.gpucheck"], cwd=tmp_path, env=environment, check=False,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "error: there is no GPU to check: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("one", [one for one in all_parts() if "run_bench.py" in one.command], ids=lambda one: one.name)
def test_every_benchmark_of_the_check_can_be_planned(one, tmp_path):
    program, *words = shlex.split(one.command.format(arms=",".join(one.arms), out=tmp_path))
    options, overrides = parse(words)
    recipe = experiment(options, overrides, "cuda")
    assert make_plans(Asked(options, "cuda", recipe.diffusion.T))[0].device == "cuda"
    assert options.device == "cuda" and (ROOT / program).is_file()


def test_every_training_of_the_check_is_a_command_line(tmp_path):
    (one,) = [one for one in all_parts() if "impls.train" in one.command]
    _, _, *words = shlex.split(one.command.format(arms=one.arms[0], out=tmp_path))
    options, overrides = train_options.parse(words)
    recipe = train_options.experiment(options, overrides, "cuda")
    assert (options.backend, options.device, options.max_steps) == ("jittor:amp", "cuda", 3)
    assert (recipe.preset, recipe.train.batch_size) == ("tiny", 4)
