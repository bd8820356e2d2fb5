"""The command line: options in, one run out, every fault of the user in one line with exit code 2."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.options import PROG, parse
from harness.plan import dry_run
from harness.progress import Progress
from harness.run.resolve import resolve
from impls.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, StorageError, UsageError
from impls.tools.cli import alias, said

# The disk, not the program, is at fault.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 measured, 1 not all of it, 2 bad input, 130 interrupted.

    1 is for a failed case, and for a disk that takes no more: what was measured is kept, and `--resume` goes on.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _main(words)
    except UsageError as error:
        return _fault(str(error), EXIT_USAGE)
    except StorageError as error:
        return _fault(str(error), EXIT_FAILED)
    except OSError as error:
        return _os_fault(error)
    except KeyboardInterrupt:
        print(f"\n{PROG}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_OK


def _os_fault(error: OSError) -> int:
    if error.errno == errno.ENAMETOOLONG:
        return _fault(f"{str(error.filename)[:60]}...: the name is too long: choose a shorter one", EXIT_USAGE)
    if error.errno not in DISK_FAULTS:
        raise error
    return _fault(f"{error.filename or 'the disk'}: {error.strerror}: make room on the disk; what was measured is "
                  "kept, see the run folder", EXIT_FAILED)


def _fault(message: str, code: int) -> int:
    print(f"{PROG}: error: {said(message)}", file=sys.stderr)
    return code


def _main(words: list[str]) -> int:
    command = [sys.executable, *([sys.argv[0]] if sys.argv and sys.argv[0] else []), *words]
    if any(alias(word).partition("=")[0] == "--resume" for word in words):
        from harness.run.resume import go_on, resumption

        resumed = resumption(words)
        progress = Progress(resumed.options.quiet)
        if resumed.run.status == "complete":
            return _mend(resumed.run.path, resumed.options.dry_run, progress)
        job = go_on(resumed, command)
    else:
        options, overrides = parse(words)
        progress = Progress(options.quiet)
        job = resolve(options, overrides, command, progress)
    if job.options.dry_run:
        print(dry_run(job.options, job.recipe, job.plans, job.device_reason, job.channels))
        return EXIT_OK
    from harness.run.execute import execute

    return execute(job, progress)


def _mend(path: Path, dry: bool, progress: Progress) -> int:
    if dry:
        print(f"{path}: complete but for its report, which would be built")
        return EXIT_OK
    from harness.run.finish import mend

    return mend(path, progress.say)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
