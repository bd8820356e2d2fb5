"""`pytorch:best`: what it stands for by device, job and machine, and what is refused beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from impls import devices
from impls.errors import UsageError
from impls.registry import BackendSpec, parse_arm, specs

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")

AMX = "flags\t\t: fpu avx512f amx_bf16\n"
WITH, WITHOUT = f"processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n{AMX}", "flags\t\t: fpu avx512f avx512_bf16x\n"


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Makes the machine's processor one with this in /proc/cpuinfo."""
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    return (tmp_path / "cpuinfo").write_text


def test_it_is_every_option_that_helps_and_bfloat16_where_the_processor_has_units_for_it(cpu):
    best = parse_arm("pytorch:best")
    found = {}
    for name, text in (("with", WITH), ("without", WITHOUT)):
        cpu(text)
        found[name] = {job: set(best.spelled_out("cpu", job).options) for job in ("training", "sampling")}
    assert found["with"]["sampling"] - found["without"]["sampling"] == {"bf16"}
    # Every option but that makes a training of the paper's network slower.
    assert found["with"]["training"] == {"bf16"} and not found["without"]["training"]
    for options in (*found["with"].values(), found["without"]["sampling"]):
        # Whatever it stands for is an arm that can be asked for by name.
        assert options and parse_arm(f"pytorch:{'+'.join(options)}").device_fault("cpu") is None
        assert "freeze" not in options or options in (found["with"]["sampling"], found["without"]["sampling"])
    for name in ("pytorch", "pytorch:bf16", "jittor"):
        assert parse_arm(name).spelled_out("cpu", "sampling").name == name
    assert devices.cpu_name()


def test_without_a_readable_cpuinfo_there_are_no_units_and_the_name_is_the_architecture(cpu, monkeypatch):
    assert not devices.bf16_units("cpu") and devices.cpu_name() == devices.platform.machine()
    cpu(WITH)
    assert devices.bf16_units("cpu") and devices.cpu_name() == "Some CPU @ 3 GHz"


@pytest.mark.parametrize(("capability", "units"), [(None, False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_on_cuda_the_gpu_decides(capability, units, monkeypatch):
    monkeypatch.setattr(devices, "cuda_capability", lambda: capability)
    assert ("bf16" in parse_arm("pytorch:best").spelled_out("cuda", "training").options) is units


@pytest.mark.parametrize(("arm", "line"), [
    ("pytorch:best+compile", "best stands for options of its own"), ("jittor:best", "unknown option 'best'"),
    ("pytorch:freeze", "freeze only changes compile: add compile"),
    ("pytorch:autotune+channels_last", "autotune only changes compile")])
def test_what_does_not_go_with_it_is_refused(arm, line):
    with pytest.raises(UsageError, match=line):
        parse_arm(arm)


def test_without_the_compiler_that_it_needs_it_is_refused_by_name(cpu, monkeypatch):
    cpu(WITH)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(UsageError, match="pytorch:best stands for .*compile.* here, and compile needs the program g"):
        parse_arm("pytorch:best").spelled_out("cpu", "sampling")


@pytest.mark.parametrize(("device", "job", "row"), [
    ("cpu", "training", "CPU, training"), ("cpu", "sampling", "CPU, sampling"), ("cuda", "training", "CUDA, both"),
    ("cuda", "sampling", "CUDA, both")])
def test_without_units_it_is_what_its_page_justifies(device, job, row, cpu, monkeypatch):
    cpu(WITHOUT)
    monkeypatch.setattr(devices, "cuda_capability", lambda: None)
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {row} |"))
    options = "+".join(parse_arm("pytorch:best").spelled_out(device, job).options)
    assert (f"`{options}`" if options else "no option") in line.split("|")[2]


def test_it_is_written_in_the_order_of_all_arms_and_refused_where_nothing_is_known():
    spec = BackendSpec("own", "own", options={"b": "", "a": ""}, best={("cpu", "training"): ("b", "a")})
    arm = parse_arm("own:best", {"own": spec})
    assert arm.spelled_out("cpu").name == "own:a+b" == parse_arm("own:b+a", {"own": spec}).name
    for device, job in (("cpu", "sampling"), ("cuda", "training")):
        with pytest.raises(UsageError, match=f"own:best: not known for {job} on {device}: name the options"):
            arm.spelled_out(device, job)


def test_nothing_runs_under_its_name_and_a_pair_has_none():
    with pytest.raises(RuntimeError, match="pytorch:best stands for other options: it was not written out"):
        parse_arm("pytorch:best").create("cpu", 1)
    with pytest.raises(UsageError, match="unknown option 'best'"):
        parse_arm("pytorch:best", specs("mine.py"))
