"""A run over models of the user's own: what is recorded, refused, resumed, and what a file's faults cost."""

from __future__ import annotations

import re
import sys

import pytest
import scripted_pair
from test_faults import SHORT_LIMITS

from harness.options import BenchConfig, checked, parse
from harness.processes.scratch import Scratch
from harness.processes.workers import LocalSessions
from harness.protocol import life, timing
from harness.record.events import (
    Alignment,
    Case,
    DatasetRecorded,
    Epoch,
    PairRecorded,
    ParityResult,
    Phases,
    StepCost,
    Verdict,
    Window,
    WorkerStarted,
)
from harness.run.finish import report_command
from harness.run.resume import go_on, resumption
from impls.errors import UsageError

SHORT = {"arms": "scripted,scripted:slow", "blocks": 6, "pairs": 4}


@pytest.fixture
def file(tmp_path, monkeypatch):
    # What executes it here is no worker of its own, and leaves these as they were.
    for name in ("meta_path", "path"):
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    path = tmp_path / "mine.py"
    path.write_text(scripted_pair.FILE)
    return path


def report(run) -> str:
    assert report_command("build", run.path)
    return (run.path / "report.md").read_text()


def test_train_speed_over_a_pair(lab, file):
    end, run = lab.run(suite="train-speed", pair=str(file), **SHORT)
    assert end.exit_code == 0, [case.reason for case in run.of(Case)]
    (pair,), (result,) = run.of(PairRecorded), run.of(ParityResult)
    assert pair.name == "mine.py" and set(pair.files) == {"mine.py"}
    assert run.started.experiment == {"preset": "pair", "seed": 0}
    assert not run.of(StepCost) and not run.of(Epoch) and not run.of(DatasetRecorded)
    assert {worker.images for worker in run.of(WorkerStarted)} == {6}
    assert result.passed and result.batch_size == 6 and result.preset == "pair"
    assert {verdict.word for verdict in run.of(Verdict)} == {"A-faster"}
    page = report(run)
    assert "pair mine.py" in page and "nobody has counted the operations of a pair" in page and pair.sha256 in page
    # 6 images in steps of 0.1 s.
    assert re.search(r"images/s, stepwise \| 60\.?0* ", page), page
    assert "Published elsewhere" not in page and "preset" not in page.partition("## Environment")[0]


def test_infer_speed_over_a_pair(lab, file):
    asked = []
    lab.sessions.spy = asked.append
    end, run = lab.run(suite="infer-speed", pair=str(file), **SHORT)
    assert end.exit_code == 0 and run.parts == ("inference",)
    assert {verdict.metric for verdict in run.of(Verdict)} == {"time of a forward pass"}
    assert {window.kind for window in run.of(Window)} == {"stepwise"}
    assert sum(isinstance(command, life.BuildForwards) for command in asked) == 2 * 6
    page = report(run)
    assert "per forward pass" in page and "## Forward passes and warm-up" in page and "passs" not in page
    assert "figures/distribution.svg" in page


def test_different_models_are_not_compared(lab, file):
    end, run = lab.run(suite="infer-speed", pair=str(file), **{**SHORT, "arms": "scripted,scripted:wrong"})
    (result,), (verdict,) = run.of(ParityResult), run.of(Verdict)
    assert not result.passed and "forward differs" in result.reason and end.exit_code == 1
    assert verdict.word == "not-comparable" and "parity" in verdict.reason
    (case,) = (one for one in run.of(Case) if one.case_id == "parity-B")
    assert f"run_bench.py --suite align --pair {file} --arms scripted,scripted:wrong names the first" in case.reason
    assert "--suite align --pair mine.py --arms scripted,scripted:wrong" in report(run)


def test_the_first_layer_that_differs_of_a_pair(lab, file):
    end, run = lab.run(suite="align", pair=str(file), arms="scripted,scripted:wrong", steps=2)
    (found,) = run.of(Alignment)
    assert end.exit_code == 0 and found.word == "differ" and found.culprit.name == "two" and found.batch_size == 6
    assert "part first in two (Triple)" in report(run) and run.started.experiment == {"preset": "pair", "seed": 0}


def test_why_over_a_pair_has_phases_and_says_what_there_is_not(lab, file):
    end, run = lab.run(suite="why", pair=str(file), arms="scripted,scripted:slow", pairs=4)
    assert end.exit_code == 0 and run.of(Phases)
    page = report(run)
    assert "the batches of a pair lie on the device" in page and "cannot run an operator alone" in page


@pytest.mark.parametrize(("words", "fault"), [
    (["--suite", "infer-speed"], "give --pair FILE.py"),
    (["--suite", "sample-speed", "--pair", "FILE"], "--pair: suite sample-speed measures the U-Net"),
    (["--suite", "all", "--pair", "FILE"], "--pair: suite all also measures what only the U-Net does"),
    (["--suite", "train-speed", "--pair", "FILE", "--batch-size", "4"], "--batch-size: models and batches come from"),
    (["--suite", "why", "--thorough", "--pair", "FILE"], "--thorough: models and batches come from"),
    (["--suite", "parity", "--pair", "FILE", "--arms", "pytorch:bf16"], "unknown option 'bf16'"),
    (["--suite", "parity", "--pair", "FILE", "--arms", "jittor:attention=onednn"], "unknown option 'attention=onednn'"),
    (["--suite", "parity", "--pair", "nowhere.py"], "cannot read it"),
])
def test_what_does_not_go_with_a_pair_is_one_line(file, words, fault):
    from harness.progress import Progress
    from harness.run.resolve import resolve

    with pytest.raises(UsageError) as caught:
        options, overrides = parse([str(file) if word == "FILE" else word for word in [*words, "--device", "cpu"]])
        resolve(options, overrides, [], Progress(quiet=True))
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_goes_on_only_with_the_files_that_it_began_with(lab, file):
    bench, opening = lab.bench(BenchConfig(device="cpu", pair=str(file), **SHORT))

    def interrupt(command):
        if isinstance(command, timing.Free):
            raise KeyboardInterrupt

    lab.sessions.spy = interrupt
    lab.cut_off(bench, opening)
    again = resumption(["--resume", str(bench.writer.path)])
    assert go_on(again, ["x"]).pair.sha256 == opening.job.pair.sha256
    file.write_text(scripted_pair.FILE + "# changed\n")
    with pytest.raises(UsageError, match=r"mine\.py of the pair .* changed since"):
        go_on(again, ["x"])


def test_a_pair_s_path_holds_wherever_the_run_goes_on(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert checked(BenchConfig(suite="parity", pair="mine.py")).pair == str(file)


MODEL = "def torch_model(): return 2.0"


@pytest.fixture
def real_sessions(lab, real_env, monkeypatch):
    for key, value in real_env.items():
        monkeypatch.setenv(key, value)
    with Scratch() as scratch:
        lab.sessions = LocalSessions(1, scratch, limits=SHORT_LIMITS)
        yield lab.sessions
        lab.sessions.close()


@pytest.mark.parametrize(("body", "reason", "line"), [
    ("print('about to hang', flush=True)\n    while True: pass", "no answer to 'build' within 5 s", "about to hang"),
    ("print('about to exit', flush=True)\n    import os; os._exit(3)", "ended by itself with status 3", "to exit"),
    ("import os; os.write(1, bytes(range(256)) * 9 + b'\\nlast words\\n')\n    raise ValueError('bad')",
     "mine.py: torch_model() failed: ValueError: bad", "last words"),
    ("import sys; sys.exit('enough')", "mine.py: torch_model() failed: SystemExit: enough", "sys.exit"),
    ("import jittor", "mine.py: torch_model() failed: ImportError: jittor is imported in the worker of torch",
     "ImportError"),
])
def test_a_file_s_faults_are_failed_cases_with_their_last_lines(lab, real_sessions, file, body, reason, line):
    file.write_text(scripted_pair.FILE.replace(MODEL, f"def torch_model():\n    {body}"))
    end, run = lab.run(suite="parity", pair=str(file), arms="scripted,scripted", steps=2)
    failed = [case for case in run.of(Case) if case.status == "failed"]
    assert end.exit_code == 1 and {case.arm for case in failed} == {"A", "B"}
    assert all(reason in case.reason and "\n" not in case.reason for case in failed), failed[0].reason
    assert all(any(line in tail for tail in case.log_tail) for case in failed), failed[0].log_tail


@pytest.mark.parametrize(("old", "new", "words"), [
    ('{"x": rng', '{"o": np.array([object()]), "x": rng', "mine.py: batch()['o'] holds object"),
    ("BATCH = 6", "BATCH = 6\noptimizer = {'lr': 'fast'}", "mine.py: optimizer: lr"),
    ("BATCH = 6", "BATCH = 6\ndef outputs(model, batch): model", "mine.py: outputs() gave NoneType"),
])
def test_what_the_user_can_mend_ends_the_run_before_it_begins(lab, file, old, new, words):
    file.write_text(scripted_pair.FILE.replace(old, new))
    with pytest.raises(UsageError) as caught:
        lab.run(suite="parity", pair=str(file), arms="scripted,scripted", steps=2)
    assert words in str(caught.value)
