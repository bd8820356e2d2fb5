"""A command with no stdout, no stderr, no reader or no room ends as it does otherwise."""

from __future__ import annotations

import codecs
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# It says something on both streams, works, says more than any buffer holds, and works again.
WORK = """
import sys
from pathlib import Path
from impls.command import process
def work(words):
    print("first")
    print("more", file=sys.stderr)
    Path(words[0]).write_text("half")
    for _ in range(3):
        print("x" * 100_000, flush=True)
        print("y" * 100_000, file=sys.stderr)
    print(sys.stdin.read(), end="")
    Path(words[0]).write_text("all")
sys.exit(process.run("prog", work))
"""


def run(redirection: str, target: Path, code: str = WORK, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a shell, with these redirections behind it."""
    line = f'set -o pipefail; "$0" -c "$1" "$2" {redirection}'
    return subprocess.run(["bash", "-c", line, sys.executable, code, target], check=False, cwd=ROOT,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                          env={"PATH": "/usr/bin:/bin", **environment})


@pytest.mark.parametrize("redirection", ["", "| head -c 3", "2>&1 | head -c 3", ">&-", "2>&-", ">&- 2>&-", "<&-",
                                         "<&- >&- 2>&-", "2>/dev/full", "2> >(true)"])
def test_nobody_listening_changes_nothing(tmp_path, redirection):
    done = run(redirection, tmp_path / "file")
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    # A file that took the place of a closed stream would hold what was said.
    assert (tmp_path / "file").read_text() == "all"


def test_results_that_no_disk_takes_are_told_after_the_work(tmp_path):
    done = run(">/dev/full", tmp_path / "file")
    assert done.returncode == 1 and (tmp_path / "file").read_text() == "all"
    assert done.stderr.splitlines()[-1] == (b"prog: error: standard output: No space left on device: not all results "
                                            b"could be shown")
    assert run("> /dev/full 2>&1", tmp_path / "file").returncode == 1


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1:strict"},
                                         {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}])
def test_every_text_can_be_said(tmp_path, environment):
    code = ("import sys; from impls.command import process\n"
            "def work(words):\n    print('\\u2013 \\udcff \\u4e2d'); print('\\u2013', file=sys.stderr)\n"
            "sys.exit(process.run('prog', work))")
    done = run("", tmp_path, code, **environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    # The bytes of a file name stay what they are, so that a script can use it.
    assert b" \xff " in done.stdout
    if "PYTHONIOENCODING" not in environment or environment["PYTHONIOENCODING"] == "ascii":
        shown = done.stdout.decode("utf-8", "surrogateescape")
        assert shown in ("\u2013 \udcff \u4e2d\n", "\\u2013 \udcff \\u4e2d\n")


@pytest.mark.parametrize(("environment", "encoding"), [
    ({"PYTHONIOENCODING": "ascii"}, "ascii"), ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii"),
    ({"PYTHONIOENCODING": "gb18030"}, None), ({"LC_ALL": "C"}, None)])
@pytest.mark.parametrize("words", [["--lang", "zh"], []])
def test_where_no_chinese_can_be_said_english_is(tmp_path, environment, encoding, words):
    asked = {} if words else {"DDPM_BENCH_LANG": "zh"}
    done = subprocess.run([sys.executable, "-m", "harness.pair", *words], check=False, cwd=ROOT, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=60, env={"PATH": "/usr/bin:/bin", **asked, **environment})
    assert done.returncode == 2 and b"\\u" not in done.stderr
    if encoding is None:
        told = done.stderr.decode(environment.get("PYTHONIOENCODING", "utf-8"))
        assert "缺少以下参数" in told and told.count("\n") == 1
    else:
        warning, fault = done.stderr.decode("ascii").splitlines()
        assert warning.startswith("python -m harness.pair: English, on pages too") and "utf-8" in warning
        assert "arguments are required" in fault
        # An encoding has several names.
        named = re.search(r"the encoding here, (\S+), has no Chinese", warning)[1]
        assert codecs.lookup(named) == codecs.lookup(encoding)


def test_a_slow_reader_of_a_pipe_that_does_not_wait_gets_everything(tmp_path):
    code = WORK.replace("import sys\n", "import os, sys\nos.set_blocking(1, False)\n", 1)
    done = run("| (read -n 1 first; cat | wc -c)", tmp_path / "file", code)
    assert done.returncode == 0 and int(done.stdout) == len("irst\n") + 3 * 100_001
