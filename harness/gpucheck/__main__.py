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

PROG = "python -m harness.gpucheck"
FOLDER = "gpu-evidence"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 all parts worked, 1 not all of them, 2 no GPU, 130 interrupted."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> int:
    parser = Parser(prog=PROG, description="Check everything that only a GPU can show; done parts are not done again.")
    parser.add_argument("--out", type=Path, default=Path(FOLDER), metavar="PATH",
                        help=f"folder of the evidence (default: {FOLDER})")
    chosen = parser.parse_args(words)
    fault = gpu.fault()
    if fault is not None:
        raise UnavailableError(f"there is no GPU to check: {fault}")
    progress, folder = Progress(), chosen.out.absolute()
    progress.say(f"checking {gpu.words() or 'the GPU that CUDA takes'}; everything goes to {folder}")
    os.chdir(ROOT)
    code = Check(folder, progress, {**os.environ, **gpu.environment(os.environ)}).run(all_parts())
    print(f"{'everything works' if code == EXIT_OK else 'not everything works'}: {folder / 'summary.md'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
