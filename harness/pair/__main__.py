"""`python -m harness.pair init FILE.py`: write a pair's file that runs at once, to put one's own models into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from harness.machine.files import ROOT
from impls.command import process
from impls.command.parser import Parser
from impls.errors import UsageError
from messages import tell

PROG = "python -m harness.pair"
SKELETON = ROOT / "templates" / "pair.py"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 written, 2 it could not be."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> None:
    parser = Parser(prog=PROG, description=tell("Write a file for two models of your own, which runs at once."))
    parser.add_argument("what", choices=["init"], help=tell("what to do"))
    parser.add_argument("file", type=Path, metavar="FILE.py",
                        help=tell("file to write; one that is there is left alone"))
    write(parser.parse_args(words).file)


def write(path: Path) -> None:
    """Write the skeleton to a new file.

    Raises:
        UsageError: there is one already, it has another ending, or the folder cannot be written.
    """
    if path.suffix != ".py":
        raise UsageError(tell("{path}: a pair is a Python file: give it the ending .py", path=path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(SKELETON.read_text(encoding="utf-8").replace("FILE.py", path.name))
    except FileExistsError as error:
        raise UsageError(tell("{path}: is there already: choose another name, or remove it", path=path)) from error
    except OSError as error:
        raise UsageError(tell("{path}: cannot write it: {why}: choose a folder of your own", path=path,
                              why=error.strerror or error)) from error
    print(tell("wrote {path}; next: python run_bench.py --suite parity --pair {path}", path=quote(str(path))))


if __name__ == "__main__":
    raise SystemExit(main())
