"""Two languages from the command line on: who asks for one is told in it, and what is recorded is English."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_tools import FakeTools

from harness.cli import main
from harness.machine.counters import Counters, taken
from harness.machine.facts import capture
from harness.machine.preflight import preflight, unused_gpu
from harness.options import BenchConfig
from harness.pair.__main__ import main as pair
from harness.processes.session import WorkerFailedError, ending
from harness.processes.tools import _message
from harness.record.events import EnvironmentRecorded
from harness.record.run import RecordedRun
from harness.run.aliases import findings
from harness.run.resolve import common_device
from harness.run.resume import check_machine
from harness.run.sbatch import script
from harness.suites.quality.steps import _facts
from impls.registry import parse_arms
from messages import VARIABLE, language, shown, speaking

ROOT = Path(__file__).resolve().parents[2]
CHINESE_SIGNS = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
CHINESE = ([["--lang", "zh"], {}], [["--lang=zh"], {"LANG": "en_GB.UTF-8"}], [[], {"LANG": "zh_CN.UTF-8"}],
           [[], {"LC_ALL": "zh_TW.UTF-8", "LANG": "C"}], [[], {VARIABLE: "zh", "LANG": "C"}])


@pytest.fixture(autouse=True)
def english_afterwards():
    """A command line sets the language of its process for good."""
    with speaking("en"):
        yield


@pytest.fixture
def asked(monkeypatch):
    """Set who asks for what by the environment."""
    def ask(environment):
        for name in (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    return ask


@pytest.mark.parametrize(("words", "environment"), CHINESE)
def test_a_refusal_is_told_in_the_language_that_is_asked_for(words, environment, asked, capsys, tmp_path):
    asked(environment)
    assert main([*words, "--blocks", "3"]) == 2
    assert "至少为 6" in capsys.readouterr().err
    asked(environment)
    assert main(["--resume", str(tmp_path), *words]) == 2
    assert "运行文件夹" in capsys.readouterr().err
    asked(environment)
    assert pair(["init", str(tmp_path / "pair.txt"), *words]) == 2
    assert "扩展名 .py" in capsys.readouterr().err


def test_the_command_line_wins_over_the_environment(asked, capsys):
    asked({"LANG": "zh_CN.UTF-8"})
    assert main(["--lang", "en", "--blocks", "3"]) == 2
    assert "must be at least 6 (fewer give no verdict), got 3" in capsys.readouterr().err
    assert main(["--blocks", "3"]) == 2
    assert "must be at least 6" in capsys.readouterr().err, "children of a run speak English, as it sets by itself"


def test_the_help_is_in_either_language(asked, capsys):
    asked({})
    assert main(["--lang", "zh", "--help"]) == 0
    chinese = capsys.readouterr().out
    assert "测量内容：" in chinese and "train-speed: 交替" in chinese and "（默认：train-speed）" in chinese
    assert main(["--lang", "en", "--help"]) == 0
    english = capsys.readouterr().out
    assert "what to measure:\n" in english and "train-speed: alternating step times" in english
    assert chinese.count("\n  --") == english.count("\n  --")


def test_a_process_without_words_has_a_language():
    env = {**os.environ, VARIABLE: "zh", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "harness.gpucheck"], cwd=ROOT, env=env, capture_output=True,
                          encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 2 and "没有可检查的 GPU" in done.stderr


def test_tasks_of_a_script_speak_the_language_that_was_asked_for(tmp_path):
    options = BenchConfig(arms="pytorch,jittor", dataset="digits", preset="tiny", device="cpu", blocks=6,
                          sbatch=str(tmp_path / "run.sh"), out=str(tmp_path))
    words = ["--blocks", "6", "--sbatch", str(tmp_path / "run.sh")]
    english = script(options, {}, words).text
    assert "--lang" not in english and "# One run of 6 blocks" in english
    with speaking("zh"):
        chinese = script(options, {}, [*words, "--lang", "zh"]).text
    again, first = [line for line in chinese.splitlines() if line.lstrip().startswith("exec ")]
    assert again.endswith(" --lang zh") and " --lang zh " in first and "# 一次有 6 个区组的运行" in chinese
    assert all(line.isascii() for line in chinese.splitlines() if not line.startswith("# ")), "but for remarks"


def recorded_texts():
    """What a journal gets, made as a run makes it."""
    here = capture()
    slow = EnvironmentRecorded(facts={
        "load1": 9.0, "cpu_usable": 2, "threads": 2, "memory_total_bytes": 1 << 33, "memory_available_bytes": 1 << 28,
        "swap_used_bytes": 1 << 30, "cpu_governor": "powersave", "cpu_limit_cores": 1.0, "python_debug_build": True,
        "python_tracing": True, "clock_source": "hpet", "env_OMP_NUM_THREADS": "many", "gpu_measured": "gpu_0",
        "gpu_0_name": "A", "gpu_1_name": "B", "gpu_0_foreign_processes": 2})
    before, after = (Counters(monotonic_s=t, raw_s=t, boot_s=t, wall_s=t, processors=2, stolen_s=t, throttled_s=t,
                              swapped_in_bytes=round(t) << 24, stalled_s=t, oom_kills=round(t)) for t in (0.0, 100.0))
    arms = parse_arms("pytorch,jittor")
    changed = check_machine(RecordedRun(ROOT, [EnvironmentRecorded(facts={"cpu_model": "X"}, starred=["cpu_model"])]),
                            EnvironmentRecorded(facts={"cpu_model": "Y"}), allowed=True)
    _, reason = common_device("auto", arms, lambda: None, lambda arm: "its driver is too old")
    return [*here.reasons.values(), *(one.message for one in (
                *preflight(slow), *taken(before, after), *unused_gpu("auto", "cpu", reason, driver=True),
                *findings({"pytorch:best": "pytorch"}, "cpu", "training"), *([changed] if changed else []))),
            reason, *map(ending, (None, -9, -11, 1)), _message(-9, "work", "no word"), _message(1, "work", "no word")]


def test_what_is_recorded_is_english_whoever_runs():
    english = recorded_texts()
    with speaking("zh"):
        chinese = recorded_texts()
    assert len(english) == len(chinese) and len(english) > 30
    assert [text for text in chinese if not text.isascii()] == []


@pytest.mark.parametrize("options", [
    {"suite": "train-speed", "arms": "scripted:slow,scripted", "selfcheck": True, "pairs": 2, "epochs": 0},
    {"suite": "sample-speed", "arms": "scripted,scripted:slow", "steps": "2", "pairs": 2},
    {"suite": "parity", "arms": "scripted,scripted:warped"},
    {"suite": "align", "arms": "scripted,scripted:wrong,scripted:tf32"},
    {"suite": "why", "arms": "scripted,scripted:slow"},
    {"suite": "quality", "arms": "scripted,scripted:slow", "num_images": 6, "steps": "10", "train_steps": "2,4"},
], ids=lambda options: options["suite"])
def test_a_run_in_chinese_records_english(lab, options):
    lab.tools = FakeTools(faults={"train-B-4": "crash"})
    with speaking("zh"):
        end, run = lab.run(**options)
    assert end.status == ("failed" if options["suite"] in ("parity", "quality") else "complete")
    kept = [path for path in run.path.iterdir() if path.suffix in (".json", ".jsonl")]
    assert {path.name for path in kept} == {"journal.jsonl", "run.json"}
    for line in "\n".join(path.read_text(encoding="utf-8") for path in kept).splitlines():
        assert not CHINESE_SIGNS.search(re.sub(r"\\u[0-9a-f]{4}", lambda one: json.loads(f'"{one[0]}"'), line)), line


def test_a_fault_of_a_tools_file_is_recorded_in_english(tmp_path):
    with speaking("zh"):
        with pytest.raises(WorkerFailedError, match="left no readable result: .*cannot read the configuration"):
            _facts(tmp_path / "none.json")
        assert language() == "zh"


def test_what_is_recorded_is_shown_in_chinese():
    with speaking("zh"):
        told = [text for text in recorded_texts() if not text.endswith("Error)")]
        assert [text for text in told if shown(text).isascii()] == []


def test_what_argparse_and_the_system_say_is_told_in_chinese_too(capsys, tmp_path):
    assert pair(["--lang", "zh"]) == 2
    assert "缺少以下参数：what, FILE.py（" in capsys.readouterr().err, "names of arguments stay"
    assert main(["--lang", "zh", "--suite", "nope"]) == 2
    assert "--suite：无效的取值 'nope'：请从 train-speed, " in capsys.readouterr().err
    assert main(["--lang", "zh", "--config", str(tmp_path / "none.json")]) == 2
    assert "none.json：无法读取配置：没有该文件或文件夹" in capsys.readouterr().err
    assert main(["--lang", "en", "--config", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.endswith("none.json: cannot read the configuration: No such file or directory\n")


def test_titles_of_help_end_as_chinese_does(capsys):
    assert main(["--lang", "zh", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("用法：run_bench.py [选项]\n") and "\n选项：\n" in text
    assert main(["--lang", "en", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: run_bench.py [options]\n") and "\noptions:\n" in text


def test_a_plan_has_chinese_brackets_and_commas(capsys):
    arms = "pytorch,pytorch:bf16"
    assert main(["--lang", "zh", "--device", "cpu", "--arms", arms, "--dry-run"]) == 0
    assert "  比较 A 与 B（严格的 float32 对 bfloat16）\n" in capsys.readouterr().out
    assert main(["--lang", "zh", "--device", "cpu", "--suite", "quality", "--arms", "pytorch", "--dry-run"]) == 0
    assert "训练至 100、400 步；ddim-10、ddim-50；每组 256 张图像，对照：训练图像" in capsys.readouterr().out
