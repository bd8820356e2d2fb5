"""What the options of the quality suite mean, and how a tool that fails is told of."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from harness.bench import TimeIsUpError
from harness.options import BenchConfig, parse
from harness.part import Asked
from harness.plan import make_plans
from harness.processes.launcher import launch
from harness.processes.session import WorkerFailedError
from harness.processes.tools import Tools
from harness.progress import Progress
from harness.suites.quality.part import milestones
from harness.suites.weights import model_paths
from impls.errors import UsageError
from impls.recipe.config import preset


@pytest.mark.parametrize(("words", "part"), [
    (["--train-steps", "0"], "rising"), (["--train-steps", "200,100"], "rising"), (["--train-steps", "x"], "rising"),
    (["--num-images", "1"], "at least 2"), (["--num-images", "0"], "at least 2"),
    (["--train-steps", "5", "--model-path", "x"], "leave one of them out"),
    (["--eta", "-1"], "0 or more"), (["--eta", "nan"], "0 or more"),
    (["--time-limit", "nan"], "minutes above 0"),
    (["--model-path", "pytorch=x"], "arm jittor has no weights"),
    (["--model-path", "jittor:onednn=x"], "not in --arms"),
    (["--model-path", "x", "--model-path", "y"], "has weights already"),
    (["--steps", "0"], "neither"),
])
def test_bad_options_are_one_line(words, part):
    with pytest.raises(UsageError, match=part) as fault:
        config, _ = parse(["--suite", "quality", *words])
        make_plans(Asked(config, "cpu"))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("words", [["--train-steps", "5"], ["--features", "x"], ["--num-images", "5"],
                                   ["--inception-weights", "x"]])
def test_options_of_the_quality_suite_are_refused_elsewhere(words):
    with pytest.raises(UsageError, match="judges no images"):
        parse(["--suite", "train-speed", *words])


def test_a_path_may_hold_an_equals_sign():
    config = BenchConfig(suite="quality", model_path=("runs/lr=1/x",))
    assert set(model_paths(config).values()) == {Path("runs/lr=1/x")}
    each = BenchConfig(suite="quality", model_path=("pytorch=a=b", "jittor=c"))
    assert model_paths(each) == {"pytorch": Path("a=b"), "jittor": Path("c")}
    swapped = BenchConfig(suite="quality", arms="pytorch,jittor:norm=onednn",
                          model_path=("pytorch=a", "jittor:norm=onednn=b"))
    assert model_paths(swapped) == {"pytorch": Path("a"), "jittor:norm=onednn": Path("b")}
    assert milestones("5, 20") == (5, 20)


class Shell:
    """Starts a line of Python instead of a tool."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __call__(self, command, env, log):
        return launch([sys.executable, "-c", self.code], env, log)


@pytest.mark.parametrize(("code", "cause", "part"), [
    ("import sys; sys.exit('tool: error: no such file: give one')", "crash", "ended by itself with status 1"),
    ("import sys; print('tool: error: no such file: give one'); sys.exit(2)", "usage", "no such file: give one"),
    ("import os; os.kill(os.getpid(), 9)", "crash", "killed by signal 9"),
])
def test_a_failing_tool_says_why(tmp_path, code, cause, part):
    tools = Tools(1, lambda arm: sys.executable, Shell(code))
    with pytest.raises(WorkerFailedError, match=part) as fault:
        tools.run("train", [], tmp_path / "x.log", Progress(stream=io.StringIO()), "training")
    assert fault.value.cause == cause


def test_a_tool_whose_time_is_up_may_finish_its_step(tmp_path):
    """As a training does, which writes its checkpoint at SIGTERM."""
    log, out = tmp_path / "x.log", tmp_path / "checkpoint"

    def check():
        if "ready" in log.read_text():
            raise TimeIsUpError("now")

    code = ("import signal, sys, time\ndef end(*_):\n    open(sys.argv[-1], 'w').close(); sys.exit(130)\n"
            "signal.signal(signal.SIGTERM, end); print('ready', flush=True)\nwhile True: time.sleep(1)")
    tools = Tools(1, lambda arm: sys.executable,
                  lambda command, env, log: launch([sys.executable, "-c", code, str(out)], env, log))
    with pytest.raises(TimeIsUpError, match="now"):
        tools.run("train", [], log, Progress(stream=io.StringIO()), "training", None, check)
    assert out.exists()


def test_a_silent_tool_is_ended(tmp_path):
    seconds = iter(range(0, 10**6, 2000))
    tools = Tools(1, lambda arm: sys.executable, Shell("import time; time.sleep(600)"), lambda: next(seconds),
                  lambda wait: None)
    with pytest.raises(WorkerFailedError, match="no sign of life"):
        tools.run("train", [], tmp_path / "x.log", Progress(stream=io.StringIO()), "training")


def test_cells_are_named_by_the_network_calls_that_are_made():
    """Spacing quad visits fewer timesteps than it is asked for, wherever the cell is shown."""
    options = BenchConfig(suite="quality", steps="1,50,100,ddpm", eta=3.0)
    part = make_plans(Asked(options, "cpu", spacing="quad"))[0].part
    assert [cell.name for cell in part.cells] == ["ddim-1", "ddim-49", "ddim-96", "ddpm-1000"]
    assert [cell.steps for cell in part.cells] == [1, 50, 100, 1000]
    recipe = preset("tiny")
    recipe = recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"spacing": "quad"})})
    assert "ddim-49: 50 steps of spacing quad are 49 network calls" in part.described(recipe)
    notes = part.notes(recipe)
    assert notes[0].startswith("ddim-1: steps 1: the first timestep visited is 0")
    assert [note.split(":")[0] for note in notes[1:]] == ["ddim-1", "ddim-49", "ddim-96"]
    with pytest.raises(UsageError, match="--steps 14,15: 15 is there twice, with 11 network calls"):
        make_plans(Asked(BenchConfig(suite="quality", steps="14,15"), "cpu", 20, spacing="quad"))
    with pytest.raises(UsageError, match="sampling steps 61: .*would visit timestep -1"):
        make_plans(Asked(BenchConfig(suite="quality", steps="61"), "cpu", spacing="diffusers-trailing"))
