"""Exit codes of the command lines, and which device an arm gets with which reason."""

from __future__ import annotations

import signal

import pytest

from impls.command import process
from impls.errors import UnavailableError, UsageError
from impls.recipe.config import Frozen
from impls.registry import Arm, BackendSpec
from impls.tools import tool
from impls.tools.cli import alias, command_line


class Switches(Frozen):
    show_denoised: bool = False
    log: bool = True
    steps: int = 1


@pytest.mark.parametrize(("given", "wanted"), [
    (["--show_denoised"], {"show_denoised": True}), (["--show_denoised=True"], {"show_denoised": True}),
    (["--show-denoised", "false", "--steps", "2"], {"show_denoised": False, "steps": 2}),
    (["--log=FALSE"], {"log": False}), (["--no_log"], {"log": False}), (["--log"], {"log": True}),
    (["--log", "--steps=3"], {"log": True, "steps": 3})])
def test_switches_take_true_and_false_too(given, wanted):
    options = command_line([alias(word) for word in given], Switches(), "prog")
    assert options == Switches(**wanted)


@pytest.mark.parametrize(("given", "line"), [
    (["--log=maybe"], "--log: expected true or false, got 'maybe'"), (["--steps", "true"], "--steps: expected a whole"),
    (["--no-log=true"], "--no-log: expected no value, got 'true'"), (["--lo"], "unrecognized arguments: --lo")])
def test_a_switch_takes_nothing_else(given, line):
    with pytest.raises(UsageError, match=line):
        command_line(given, Switches(), "prog")


@pytest.fixture(autouse=True)
def same_process(scripted):
    """Nothing of a command line outlives its test."""


def fails(error):
    def work(_):
        raise error
    return work


@pytest.mark.parametrize(("work", "code", "line"), [
    (lambda _: None, 0, ""), (fails(UsageError("bad\n  input")), 2, "prog: error: bad input\n"),
    (fails(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")), 1,
     "prog: error: CUDA out of memory. Tried to allocate 2.00 GiB: choose a smaller batch, or end what else holds the "
     "memory\n"),
    (fails(KeyboardInterrupt()), 130, "\nprog: interrupted\n"), (fails(SystemExit(0)), 0, ""),
    (lambda _: signal.raise_signal(signal.SIGTERM), 130, "\nprog: interrupted\n"),
    (lambda _: signal.raise_signal(signal.SIGINT), 130, "\nprog: interrupted\n")])
def test_exit_codes(work, code, line, capsys):
    # The tests themselves may run in the background, where Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert process.run("prog", work, []) == code
    assert capsys.readouterr().err == line


def test_in_the_background_of_a_script_ctrl_c_stays_ignored(capsys):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert process.run("prog", lambda _: signal.raise_signal(signal.SIGINT), []) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("bug", [ZeroDivisionError(), RuntimeError("dictionary changed size during iteration")])
def test_our_own_bugs_keep_their_traceback(bug):
    with pytest.raises(type(bug)):
        process.run("prog", fails(bug), [])


class Opened:
    """Stands for `impls.tools.tool`'s way to a framework: refuses the devices it is told to."""

    def __init__(self, monkeypatch, refused, driver=None):
        self.tried, self.said, self.refused = [], [], refused
        monkeypatch.setattr(tool, "cuda_driver_fault", lambda: driver)
        monkeypatch.setattr(Arm, "create", self.create)

    def create(self, device, threads):
        self.tried.append(device)
        if device in self.refused:
            raise UnavailableError(f"no {device} here")
        return f"backend on {device}"

    def open(self, choice, **spec):
        arm = Arm("fake", (), BackendSpec("fake", "nowhere", {}, **spec))
        return tool.open_backend(arm, choice, self.said.append)


def test_auto_takes_cuda_where_the_arm_can_use_it(monkeypatch):
    opened = Opened(monkeypatch, ())
    assert opened.open("auto") == ("backend on cuda", "cuda")
    assert (opened.tried, opened.said) == (["cuda"], ["device cuda: fake can use it"])
    assert opened.open("cpu") == ("backend on cpu", "cpu")


@pytest.mark.parametrize(("refused", "driver", "spec", "reason"), [
    ((), "no driver", {}, "no driver"), (("cuda",), None, {}, "no cuda here"),
    ((), None, {"devices": ("cpu",)}, "fake runs only on cpu")])
def test_auto_falls_back_with_the_reason(monkeypatch, refused, driver, spec, reason):
    opened = Opened(monkeypatch, refused, driver)
    assert opened.open("auto", **spec) == ("backend on cpu", "cpu")
    assert opened.said == [f"device cpu: fake cannot use CUDA here: {reason}"]
    with pytest.raises(UnavailableError, match=f"--device cuda: {reason}"):
        opened.open("cuda", **spec)


def test_a_framework_that_is_bound_to_cuda_says_what_was_wrong_first(monkeypatch):
    opened = Opened(monkeypatch, ("cuda", "cpu"))
    with pytest.raises(UnavailableError, match="no cuda here"):
        opened.open("auto")
    with pytest.raises(UnavailableError, match="no cpu here"):
        opened.open("cpu")
    with pytest.raises(UnavailableError, match="runs only on cuda"):
        opened.open("cpu", devices=("cuda",))
