"""`pytorch:best` in a run: written out before anything is planned, told wherever a run is told of, and kept."""

from __future__ import annotations

import re
import sys
from contextlib import closing

import pytest

from harness import cli
from harness.options import parse
from harness.progress import Progress
from harness.record.writer import RunWriter
from harness.run import aliases
from harness.run.resolve import resolve
from harness.run.resume import resumption
from harness.run.start import run_started
from harness.suites.registry import SUITES
from impls import devices
from impls.errors import UsageError
from impls.registry import Arm, parse_arm

BEST = {"training": "pytorch:bf16", "sampling": "pytorch:bf16+channels_last+compile"}


@pytest.fixture(autouse=True)
def units(tmp_path, monkeypatch):
    """A processor with units for bfloat16; the returned function takes them away."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu amx_bf16\n")
    monkeypatch.setattr(devices, "CPUINFO", cpuinfo)
    return lambda: cpuinfo.write_text("flags\t\t: fpu\n")


def job(*words):
    return resolve(*parse(["--device", "cpu", *words]), [], Progress(quiet=True))


@pytest.mark.parametrize(("suite", "of"), [("train-speed", "training"), ("sample-speed", "sampling"),
                                           ("why", "training"), ("quality", "training"), ("all", "training")])
def test_the_arms_of_a_run_are_those_that_it_stands_for(suite, of):
    found = job("--suite", suite, "--arms", "pytorch,pytorch:best")
    assert [arm.name for _, arm in found.plans[0].arms] == ["pytorch", BEST[of]]
    assert SUITES[suite].job == of
    assert found.options.arms == f"pytorch,{BEST[of]}" and found.aliases == {"pytorch:best": BEST[of]}
    (told,) = aliases.findings(found.aliases, "cpu", of)
    assert told.message.startswith(f"pytorch:best = {BEST[of].partition(':')[2]}, for {of} on the CPU")


def test_it_is_asked_for_the_device_and_the_job_of_the_run(monkeypatch):
    asked = []

    def spelled_out(arm, device, job="training"):
        asked.append((arm.name, device, job))
        return parse_arm("pytorch:compile")

    monkeypatch.setattr(Arm, "spelled_out", spelled_out)
    options, _ = parse(["--arms", "pytorch,pytorch:best"])
    assert aliases.aliases(options, "cuda", "sampling") == {"pytorch:best": "pytorch:compile"}
    assert asked == [("pytorch:best", "cuda", "sampling")]


def test_where_no_option_helps_it_is_the_plain_arm_and_refused_beside_that(units):
    units()
    assert job("--arms", "jittor,pytorch:best").options.arms == "jittor,pytorch"
    with pytest.raises(UsageError, match=re.escape("--arms pytorch,pytorch:best: pytorch:best stands for pytorch here, "
                                                   "which is named already (training on the CPU, which has no units")):
        job("--arms", "pytorch,pytorch:best")


def test_its_interpreter_and_its_second_copy_follow_it():
    found = job("--arms", "pytorch,pytorch:best", "--interpreter", f"pytorch:best={sys.executable}", "--selfcheck")
    names = [arm.name for _, arm in found.plans[0].arms]
    assert names == ["pytorch", BEST["training"]] * 2
    assert found.options.interpreters == {BEST["training"]: sys.executable}
    assert not job("--arms", "pytorch").aliases


def test_weights_of_one_arm_follow_it_and_those_of_all_stay():
    asked, _ = parse(["--suite", "sample-speed", "--arms", "pytorch,pytorch:best", "--model-path", "all=of=them",
                      "pytorch:best=its=own", "pytorch=plain"])
    found = aliases.written_out(asked, {"pytorch:best": "pytorch:compile"})
    assert found.model_path == ("all=of=them", "pytorch:compile=its=own", "pytorch=plain")
    assert found.arms == "pytorch,pytorch:compile" and [arm.name for arm in found.compared] == found.arms.split(",")
    assert aliases.written_out(asked, {}) == asked


def test_what_it_stood_for_is_told_with_where_and_what_for(monkeypatch):
    monkeypatch.setattr(aliases, "bf16_units", lambda device: device == "cuda")
    said = [aliases.findings({"pytorch:best": arm}, device, "sampling")[0]
            for arm, device in (("pytorch:bf16+compile", "cuda"), ("pytorch", "cpu"))]
    assert [one.message for one in said] == [
        "pytorch:best = bf16+compile, for sampling on CUDA",
        "pytorch:best = no option, for sampling on the CPU, which has no units for bfloat16"]
    assert {one.code for one in said} == {"arm-alias"} and not aliases.findings({}, "cpu", "sampling")


def test_a_dry_run_says_what_it_stands_for(capsys):
    assert cli.main(["--device", "cpu", "--arms", "pytorch,pytorch:best", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"pytorch:best = {BEST['training']}\n" in said and f"  B  {BEST['training']}\n" in said


def test_a_run_that_goes_on_keeps_what_it_stood_for(tmp_path, monkeypatch, capsys):
    asked = ["--arms", "pytorch,pytorch:best", "--interpreter", f"pytorch:best={sys.executable}"]
    begun = job(*asked)
    with closing(RunWriter.create(tmp_path, "train-speed")) as writer:
        writer.append(run_started(writer.path.name, begun))
    # What the machine would make of it now does not count.
    monkeypatch.setattr(aliases, "aliases", None)
    for words in ([], asked):
        assert resumption(["--resume", str(writer.path), *words]).options.arms == begun.options.arms
    with pytest.raises(UsageError, match="--arms was"):
        resumption(["--resume", str(writer.path), "--arms", "pytorch:best,pytorch"])
    assert cli.main(["--resume", str(writer.path), "--dry-run"]) == 0
    assert f"\npytorch:best = {BEST['training']}\n" in capsys.readouterr().out
