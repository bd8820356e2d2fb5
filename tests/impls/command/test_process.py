"""What a command hands on to the processes that its libraries fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from impls.command import process
from impls.errors import EXIT_FAILED

ROOT = Path(__file__).parents[3]
CODE = """
import os, signal, sys
from impls.command import process
def work(words):
    for _ in range(2):
        child = os.fork()
        if not child:
            # A helper that unwinds by our handler may hold a lock that its brothers and its parent wait for.
            default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGINT}
            os._exit(7 if default and blocked else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    signal.raise_signal(signal.SIGTERM)
process.run("prog", work, [])
sys.exit(process.run("prog", work, []))
"""


def test_an_exit_with_words_says_them_and_is_no_success(capsys):
    def work(words):
        raise SystemExit("the library gives up")

    assert process.run("prog", work, []) == EXIT_FAILED
    assert capsys.readouterr().err == "prog: error: the library gives up\n"


def test_forked_helpers_die_at_once_and_leave_ctrl_c_to_their_parent():
    done = subprocess.run([sys.executable, "-c", CODE], check=False, cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stderr) == (130, "\nprog: interrupted\n" * 2)
