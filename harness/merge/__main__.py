"""What `python -m reports merge PART... --out FOLDER` has the harness do: one journal of all parts, judged as one run.

A process of its own, as the reports are for a run: they read journals, and judge none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.merge.journal import write
from harness.merge.parts import read_parts
from impls.command import process
from impls.command.parser import Parser

PROG = "python -m reports merge"  # English


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 written, 2 the parts are not one run."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> None:
    parser = Parser(prog=PROG)
    parser.add_argument("parts", type=Path, nargs="+", metavar="PART")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(words)
    write(read_parts(options.parts), options.out)


if __name__ == "__main__":
    raise SystemExit(main())
