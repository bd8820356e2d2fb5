"""The help of every command, as a person reads it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cli import main as bench
from impls import VERSION
from impls.command.columns import wrapped
from impls.jittor.runtime import main as prewarm
from impls.tools.evaluate.run import main as evaluate
from impls.tools.sample.run import main as sample
from impls.tools.train.run import main as train
from reports.__main__ import main as reports

COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "run_bench.py": (bench, []), "train": (train, []), "sample": (sample, []), "evaluate": (evaluate, []),
    "prewarm": (prewarm, []), "reports": (reports, []),
    **{name: (reports, [name]) for name in ("build", "index", "serve", "compare", "export")}}
# What only somebody who reads the code would understand.
FOR_PROGRAMMERS = re.compile(r"None\b|\bSTR\b|\bINT\b|\bFLOAT\b|\bTEXT\b|checked|`|UsageError|Attributes:|==SUPPRESS==")


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """Nothing of a command line outlives its test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def shown(name: str, capsys: Any, columns: int = 80, option: str = "--help") -> str:
    main, words = COMMANDS[name]
    assert main([*words, option]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_can_be_read(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = shown(name, capsys)
    assert FOR_PROGRAMMERS.search(text) is None
    assert max(map(len, text.splitlines())) <= 100
    options = re.split(r"\n  (?=-)", text)[1:]
    assert len(options) >= 2 and any(one.startswith("--version") for one in options)
    for one in options:
        head, *lines = re.split(r"\s{2,}", one.split("\n\n")[0])
        assert lines and len(" ".join(lines)) > 5, f"{head} is not explained"
        assert len(re.findall(r"default:", one)) <= 1, f"{head} tells its default twice"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_ends_on_any_terminal(name, capsys, monkeypatch):
    usual = shown(name, capsys).split()
    for columns in ("1", "2", "5", "20", "0", "-3", "x", ""):
        monkeypatch.setenv("COLUMNS", columns)
        assert sorted(shown(name, capsys).split()) == sorted(usual)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_version(name, capsys):
    assert shown(name, capsys, option="--version") == f"ddpm-bench {VERSION}\n"


def test_every_suite_is_told_in_one_line(capsys):
    text = " ".join(shown("run_bench.py", capsys).split())
    for line in ("train-speed: alternating step times", "sample-speed: alternating whole", "quality: FID and",
                 "parity: the same weights", "all: parity, train-speed"):
        assert line in text


@pytest.mark.parametrize("columns", range(6, 30))
def test_no_line_of_chinese_ends_with_what_opens_or_begins_with_what_closes(columns):
    text = "写 npy（uint8 数组），共 N 个；0：不画（默认：同 --checkpoint）（也可写作 x）"
    lines = wrapped(text, columns)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert not [line for line in lines if line.endswith("（") or line[0] in "，。：；、？！）"]
