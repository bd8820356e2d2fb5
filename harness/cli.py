"""The command line: options in, one run out, every fault of the user in one line with exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import PROG
from impls.command import process
from impls.errors import EXIT_OK, UsageError
from impls.ranks import own_ranks
from impls.tools.cli import alias
from messages import VARIABLE, shown, tell

if TYPE_CHECKING:
    from harness.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 measured, 1 not all of it, 2 bad input, 130 interrupted.

    1 is for a failed case, and for a disk that takes no more: what was measured is kept, and `--resume` goes on; and
    for a `--doctor` that found something.
    """
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> int:
    # Whatever is started from here writes into journals, which are English; the report is told the reader's language.
    os.environ[VARIABLE] = "en"
    # Here, because the suites of other packages are loaded with them, and one that fails is a fault to be told.
    from harness.options import parse
    from harness.plan import dry_run
    from harness.progress import Progress
    from harness.run.resolve import resolve

    ranks = own_ranks()
    if ranks.size > 1:
        raise UsageError(tell("{launcher} started {ranks} of these: start one, which starts ranks by --ranks N",
                              launcher=ranks.launcher, ranks=ranks.size))
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
        if options.doctor:
            from harness.doctor.doctor import examine

            return examine(options, progress)
        if options.sbatch is not None:
            from harness.run.sbatch import script

            made = script(options, overrides, words)
            if options.dry_run:
                print(made.text, end="")
            else:
                made.write()
                print(made.sentence())
            return EXIT_OK
        job = resolve(options, overrides, command, progress)
    if job.options.dry_run:
        print(dry_run(job.options, job.recipe, job.plans, shown(job.device_reason), job.channels, job.aliases))
        return EXIT_OK
    from harness.run.execute import execute

    return execute(job, progress)


def _mend(path: Path, dry: bool, progress: Progress) -> int:
    if dry:
        print(tell("{path}: complete but for its report, which would be built", path=path))
        return EXIT_OK
    from harness.run.finish import mend

    return mend(path, progress.say)
