"""`python -m reports build RUN | index RESULTS | serve RESULTS`: pages from recorded runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from impls.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose faults are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Turn a usage fault into the project's exception."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = Parser(prog="python -m reports", description=__doc__, allow_abbrev=False)
    commands = root.add_subparsers(dest="command", required=True, parser_class=Parser)
    build = commands.add_parser("build", help="write report.html, report.md and figures/ of a run, from its journal")
    build.add_argument("run", type=Path, help="run folder, e.g. results/train-speed-...")
    index = commands.add_parser("index", help="write index.html, the list of all runs")
    index.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="folder of runs (default: results)"
    )
    serve = commands.add_parser("serve", help="show a results folder in the browser, on this machine only")
    serve.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="folder of runs (default: results)"
    )
    serve.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1; 0 takes a free one (default: 8000)")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad usage or input."""
    try:
        options = parser().parse_args(argv)
        if options.command == "build":
            from reports import render

            print(render.build(options.run))
        elif options.command == "index":
            from reports import index

            print(index.build(options.results))
        else:
            from reports import serve

            serve.serve(options.results, options.port)
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
