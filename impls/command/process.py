"""The process around every command line: its streams, its signals, every fault as one line, and the exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType

import messages
from impls.command import streams
from impls.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, StorageError, UsageError, gave_up
from messages import tell

# The disk, not the program, is at fault.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
CHINESE = "\u4e2d\u6587"


def run(prog: str, work: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """The exit code of a command line: 0 done, 1 not all of it, 2 bad input, 130 interrupted (also by SIGTERM).

    Nobody listening changes nothing: a closed stdout or stderr, or a pipe whose reader has left, swallows what is said
    there. A stdout that takes no more (a full disk) makes an end with 0 one with 1, after the work and with a line.

    Args:
        prog: what every line about a fault starts with.
        work: does everything; gets the words of the command line and returns the exit code where it is not 0.
        argv: those words; by default the process's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    streams.mend()
    messages.use(spoken(words))
    if messages.language() != "en" and (encoding := streams.lacking(CHINESE)) is not None:
        messages.use("en")
        print(f"{prog}: English, on pages too, because the encoding here, {encoding}, has no Chinese: put "  # English
              "PYTHONIOENCODING=utf-8 in front of the command to have it", file=sys.stderr)
    _guard_helpers()
    catch_interrupts(also_ignored=False)
    status = _status(prog, work, words)
    lost = streams.settle()
    if lost is None:
        return status
    _complain(prog, tell("standard output: {reason}: not all results could be shown", reason=lost.strerror))
    return status or EXIT_FAILED


def _status(prog: str, work: Callable[[list[str]], int | None], words: list[str]) -> int:
    try:
        return work(words) or EXIT_OK
    except UsageError as error:
        return _fault(prog, error, EXIT_USAGE)
    except (StorageError, RuntimeError) as error:
        known = error if isinstance(error, StorageError) else gave_up(error)
        if known is None:
            raise
        return _fault(prog, known, EXIT_FAILED)
    except OSError as error:
        return _os_fault(prog, error)
    except KeyboardInterrupt:
        print(f"\n{prog}: {tell('interrupted')}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return _fault(prog, stop.code, EXIT_FAILED) if isinstance(stop.code, str) else stop.code or EXIT_OK


def spoken(words: Sequence[str]) -> messages.Language:
    """The language that a command line asks for, or else its environment; before the words are parsed, which may fail.

    Args:
        words: of the command line; of `--lang both` the first is spoken on the terminal.
    """
    asked = [after if word == "--lang" else word.removeprefix("--lang=")
             for word, after in zip(words, [*words[1:], ""], strict=False) if word == "--lang" or word[:7] == "--lang="]
    known = [one for one in messages.LANGUAGES if asked and one == asked[-1]]
    return known[0] if known else messages.preferred()


def said(message: object) -> str:
    """A message for the terminal on one line, whatever a file name in it is made of."""
    return " ".join(str(message).encode("utf-8", "backslashreplace").decode("utf-8").split())


def catch_interrupts(also_ignored: bool = True) -> None:
    """Make Ctrl-C and SIGTERM a KeyboardInterrupt, also after the import of Jittor, which installs a quick exit.

    Args:
        also_ignored: where Ctrl-C is ignored, too, as a shell has it for what it runs in the background.
    """
    if threading.current_thread() is threading.main_thread():
        if also_ignored or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)


@cache
def _guard_helpers() -> None:
    # Once, because hooks of fork cannot be taken back.
    os.register_at_fork(after_in_child=_helpers_signals)


def _helpers_signals() -> None:
    """What forked helpers do with signals (loaders, Jittor's compilers): die by SIGTERM, leave Ctrl-C to their parent.

    Jittor ends its compilers by SIGTERM, and they must not unwind with our handler. Ctrl-C reaches the whole job, but
    the step that is to be finished may need them, and Jittor ends its process with status 1 when a child has died
    first. Blocked, because Jittor's own handler in them cannot be replaced.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _os_fault(prog: str, error: OSError) -> int:
    if error.errno == errno.ENAMETOOLONG:
        return _fault(prog, tell("{path}...: the name is too long: choose a shorter one",
                                 path=str(error.filename)[:60]), EXIT_USAGE)
    if error.errno not in DISK_FAULTS:
        raise error
    return _fault(prog, tell("{path}: {reason}: make room on the disk; what was finished before is kept",
                             path=error.filename or tell("the disk"), reason=error.strerror), EXIT_FAILED)


def _fault(prog: str, message: object, code: int) -> int:
    _complain(prog, message)
    return code


def _complain(prog: str, message: object) -> None:
    # A fault may have come in English, from a worker or a tool.
    print(tell("{program}: error: {fault}", program=prog, fault=messages.shown(said(message))), file=sys.stderr)
