"""`python -m harness.gpucheck`: check everything that only a GPU can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.gpucheck.check import Check
from harness.gpucheck.parts import all_parts
from harness.machine import gpu
from harness.machine.files import ROOT
from harness.progress import Progress
from impls.command import process
from impls.command.parser import Parser
from impls.errors import EXIT_OK, UnavailableError
from messages import VARIABLE, shown, tell

PROG = "python -m harness.gpucheck"
FOLDER = "gpu-evidence"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 all parts worked, 1 not all of them, 2 no GPU, 130 interrupted."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> int:
    parser = Parser(prog=PROG, description=tell("Check everything that only a GPU can show; done parts are not done "
                                                "again."))
    parser.add_argument("--out", type=Path, default=Path(FOLDER), metavar="PATH",
                        help=tell("folder of the evidence (default: {folder})", folder=FOLDER))
    chosen = parser.parse_args(words)
    fault = gpu.fault()
    if fault is not None:
        raise UnavailableError(tell("there is no GPU to check: {fault}", fault=shown(fault)))
    progress, folder = Progress(), chosen.out.absolute()
    progress.say(tell("checking {gpu}; everything goes to {folder}", folder=folder,
                      gpu=shown(gpu.words()) or tell("the GPU that CUDA takes")))
    os.chdir(ROOT)
    # What they say is read here, and kept.
    environment = {**os.environ, **gpu.environment(os.environ), VARIABLE: "en"}
    code = Check(folder, progress, environment).run(all_parts())
    page = folder / "summary.md"
    print(tell("everything works: {page}", page=page) if code == EXIT_OK else
          tell("not everything works: {page}", page=page))
    return code


if __name__ == "__main__":
    sys.exit(main())
