"""A package that cannot be loaded is named in one line, by every command, and breaks nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from impls.errors import UsageError
from impls.registry import leading_arm, parse_arm, parse_arms

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("group", "command"), [
    ("backends", ["run_bench.py", "--dry-run"]), ("suites", ["run_bench.py", "--dry-run"]),
    ("backends", ["-m", "impls.train", "--backend", "pytorch"]),
    ("features", ["-m", "impls.evaluate", "--images", "x", "--features", "efficientnet-lite0"])])
def test_a_broken_package_is_one_line(tmp_path, group, command):
    (tmp_path / "broken_things.py").write_text("import nowhere_at_all\n")
    info = tmp_path / "broken_things-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-things\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[ddpm_bench.{group}]\nmine = broken_things:SPEC\n")
    done = subprocess.run([sys.executable, *command], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
    assert ("entry point 'mine' (broken_things:SPEC) of broken-things 1.2: cannot be loaded: ModuleNotFoundError: "
            "No module named 'nowhere_at_all': mend or remove that package") in done.stderr


def test_an_arm_has_one_half_precision():
    assert parse_arm("pytorch:tf32+fp16").name == "pytorch:fp16+tf32"
    with pytest.raises(UsageError, match=r"^arm 'pytorch:fp16\+bf16': bf16 and fp16 exclude each other: choose one$"):
        parse_arm("pytorch:fp16+bf16")
    with pytest.raises(UsageError, match="exclude each other"):
        parse_arm("pytorch:compile+fp16+bf16+tf32")
    assert (parse_arm("pytorch:fp16").precision, parse_arm("pytorch:bf16+tf32").precision) == ("float16", "bfloat16")
    own = parse_arm("jittor:onednn+bf16")
    assert (own.name, own.precision) == ("jittor:bf16+onednn", "bfloat16") and own.device_fault("cuda")
    with pytest.raises(UsageError, match="amp and bf16 exclude each other"):
        parse_arm("jittor:amp+bf16+onednn")
    fault = parse_arm("pytorch:fp16").device_fault("cpu")
    assert fault == "pytorch:fp16: option 'fp16' exists only on CUDA"


def test_an_option_may_have_a_value():
    arm = parse_arm("jittor:optimiser=onednn+attention=onednn")
    assert (arm.name, arm.options) == ("jittor:attention=onednn+optimiser=onednn",
                                       ("attention=onednn", "optimiser=onednn"))
    assert arm.device_fault("cpu") is None and arm.precision == "float32"
    assert arm.device_fault("cuda") == f"{arm.name}: option 'attention=onednn' exists only on the CPU"
    assert parse_arm("pytorch:attention=math+channels_last").device_fault("cuda") is None
    assert [one.name for one in arm.swaps("cpu")] == ["jittor:attention=onednn+norm=onednn+optimiser=onednn"]
    assert [one.name for one in parse_arm("pytorch:bf16").swaps("cuda")] == [
        "pytorch:attention=math+bf16", "pytorch:attention=fused+bf16"]
    assert parse_arm("jittor:onednn").swaps("cpu") == parse_arm("jittor").swaps("cuda") == ()


@pytest.mark.parametrize(("text", "fault"), [
    ("pytorch:attention=x", "attention is one of attention=math, attention=fused, not 'attention=x'"),
    ("pytorch:attention", "attention is one of attention=math, attention=fused, not 'attention'"),
    ("pytorch:attention=", "attention is one of attention=math, attention=fused, not 'attention='"),
    ("pytorch:norm=onednn", "unknown option 'norm=onednn': pytorch has channels_last, compile, autotune, freeze, "
                            "bf16, fp16, tf32, attention=math, attention=fused, best"),
    ("pytorch:attention=math+attention=fused", "attention=math and attention=fused exclude each other: choose one"),
    ("jittor:norm=onednn+norm=onednn", "an option is given twice"),
    ("jittor:bf16", "bf16 only changes onednn: add onednn, or leave it out"),
    ("jittor:onednn+attention=onednn", "onednn and attention=onednn exclude each other: choose one"),
])
def test_a_wrong_value_is_one_line(text, fault):
    with pytest.raises(UsageError, match=f"^{re.escape(f'arm {text!r}: {fault}')}$"):
        parse_arm(text)


def test_the_arm_before_an_equals_sign_may_hold_one():
    def split(text):
        found = leading_arm(text)
        return None if found is None else (found[0].name, found[1])

    assert split("jittor:attention=onednn=/bin/python") == ("jittor:attention=onednn", "/bin/python")
    assert split("jittor:onednn+optimiser=onednn=x") is None
    assert split("jittor:onednn=a=b") == ("jittor:onednn", "a=b")
    assert split("pytorch:attention=math") is None and split("runs/lr=1/x") is None


def test_the_packages_are_asked_once_for_all_arms(monkeypatch):
    asked = []
    monkeypatch.setattr("impls.plugins.entry_points", lambda group: asked.append(group) or [])
    assert [arm.name for arm in parse_arms("pytorch,jittor, pytorch:bf16")] == ["pytorch", "jittor", "pytorch:bf16"]
    assert asked == ["ddpm_bench.backends"]
