"""`python -m reports build|index|serve|compare|merge|align|export`: pages, comparisons, tables from recorded runs."""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from impls.command import process
from impls.command.parser import Parser
from impls.errors import EXIT_FAILED, EXIT_OK, UsageError
from impls.pictures import plot
from impls.tools.cli import alias
from messages import VARIABLE, language, tell

PROG = "python -m reports"
# What `--lang` says where pages are wanted in English and in Chinese.
BOTH = "both"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    run, folder = tell("run folder, e.g. results/train-speed-..."), tell("folder of runs (default: results)")
    png = tell("write figures/ as PNG, too, for viewers without SVG")
    root = Parser(prog=PROG, description=tell("Pages, comparisons and tables from recorded runs."))
    commands = root.add_subparsers(dest="command", required=True, parser_class=Parser)
    build = commands.add_parser("build", more_languages=(BOTH,), help=tell(
        "write report.html, report.md and figures/ of a run, from its journal"))  # fmt: skip
    build.add_argument("run", type=Path, help=run)
    build.add_argument("--png", action="store_true", help=png)
    index = commands.add_parser("index", help=tell("write index.html, the list of all runs"))
    index.add_argument("results", type=Path, nargs="?", default=Path("results"), help=folder)
    serve = commands.add_parser("serve", help=tell("show a results folder in the browser, on this machine only"))
    serve.add_argument("results", type=Path, nargs="?", default=Path("results"), help=folder)
    serve.add_argument("--port", type=int, default=8000,
                       help=tell("port on 127.0.0.1; 0 takes a free one (default: 8000)"))  # fmt: skip
    compare = commands.add_parser(
        "compare",
        help=tell("judge the same arms across runs: has anything become slower?"),
        description=tell(
            "Judges every arm and cell of the later runs against the first, prints the verdicts, and writes "
            "compare.html, compare.md and figures/. A ratio above 1 means slower than in the first run."),
        epilog=tell(
            "exit codes: 0 compared; 1 compared, and --fail-on found something; 2 bad usage, unreadable runs, runs "
            "that must not be compared, or nothing in common"),
    )  # fmt: skip
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                         help=tell("run folders, the one to compare with first"))  # fmt: skip
    compare.add_argument("--out", type=Path, help=tell("folder to write to (default: compare-<id>-<id> here)"))
    compare.add_argument("--png", action="store_true", help=png)
    compare.add_argument("--control", metavar="ARM", help=tell(
        "an arm of all runs that did not change: verdicts rest on the ratio to it, in which the machine's drift "
        "cancels (default: on each arm's own time)"))  # fmt: skip
    compare.add_argument("--fail-on", choices=("slower",), help=tell(
        "exit with 1 when anything is judged slower; what is undecided passes, "
        "and so does an arm that is missing or failed in a later run: it is listed as not compared"))  # fmt: skip
    compare.add_argument("--allow-env-change", action="store_true",
                         help=tell("compare although the machine differs, and mark it"))  # fmt: skip
    merge = commands.add_parser(
        "merge",
        help=tell("make one run of the parts that several machines or array tasks measured, with its report"),
        description=tell(
            "Makes one run of the parts of a run (run_bench.py --share, --sbatch): checks that configuration, "
            "versions and hardware are alike, takes the host as a factor, pools ratios, and builds the report."),
        epilog=tell(
            "exit codes: 0 merged; 2 bad usage, a part that is missing or unfinished (named, with what measures it "
            "alone), or parts that differ"),
    )  # fmt: skip
    merge.add_argument("parts", type=Path, nargs="+", metavar="PART",
                       help=tell("run folders of all parts, or folders that hold one each"))  # fmt: skip
    merge.add_argument("--out", type=Path, required=True, help=tell("folder of the merged run, which is not there yet"))
    align = commands.add_parser(
        "align",
        help=tell("do two recipes train alike? From their loss curves, in any program's logs"),
        description=tell(
            "Reads loss curves (JSON lines, CSV, TensorBoard's event files, printed logs), finds the offset of "
            "their steps, and says same, differs from step n, or cannot be told. Writes align.html, align.md and "
            "figures/. Several runs of a recipe (seeds, or twins from perturbed weights) show what is chance."),
        epilog=tell(
            "exit codes: 0 compared, whatever the verdict; 2 bad usage, or logs without steps and losses in common"),
    )  # fmt: skip
    align.add_argument("logs", type=Path, nargs="+", metavar="LOG",
                       help=tell("logs of recipe A, a run each; without --against two, of A and of B"))  # fmt: skip
    align.add_argument("--against", type=Path, nargs="+", metavar="LOG",
                       help=tell("logs of recipe B, in the same order where runs share their batches"))  # fmt: skip
    align.add_argument("--column", metavar="NAME", help=tell("name of the loss, where it is not found by itself"))
    align.add_argument("--pattern", metavar="REGEX", help=tell(
        "for printed logs: a regular expression with the groups (?P<step>...) and (?P<loss>...), and perhaps epoch "
        "and total"))  # fmt: skip
    align.add_argument("--margin", type=float, default=5.0, metavar="PERCENT",
                       help=tell("difference that counts as the same (default: 5)"))  # fmt: skip
    align.add_argument("--out", type=Path, default=Path("align"), help=tell("folder to write to (default: align here)"))
    export = commands.add_parser(
        "export",
        more_languages=(BOTH,),
        help=tell("write a run's measurements as tables, or as a section of a README with its pictures"),
        description=tell(
            "Writes a run's measurements as tidy tables, docs/export-schema.md describes every column; or as a "
            "section of a README, ready to paste, with pictures, a badge and a table for LaTeX: docs/quoting.md."),
    )  # fmt: skip
    export.add_argument("run", type=Path, help=run)
    export.add_argument(
        "--format", required=True, choices=("csv", "parquet", "json", "readme"),
        help=tell("csv, parquet: a file per table; json: one; readme: a section and a folder beside it")
    )
    export.add_argument("--out", type=Path, help=tell(
        "folder (csv, parquet, readme) or file (json) to write (default: export/ in the run's "
        "folder, readme/ there, or export.json there)"))  # fmt: skip
    return root


def compared(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Compare runs, print the verdicts, write the pages; returns the exit code."""
    from reports.compare import runs as compare

    comparison = compare.compare(options.runs, options.control, options.allow_env_change)
    # Drawing needs matplotlib, which a refusal must not wait for.
    plot.imported(manual=False)
    from reports.compare import write as files

    page = files.write(comparison, options.out, ["python", "-m", "reports", *argv], options.png)
    print("\n".join([*files.lines(comparison), *files.remarks(comparison), str(page)]))
    return EXIT_FAILED if options.fail_on in comparison.words else EXIT_OK


def merged(options: argparse.Namespace) -> int:
    """Have the harness make one run of its parts, since it judges them and this only reads; returns its exit code."""
    paths = [str(path.absolute()) for path in options.parts]
    command = [sys.executable, "-m", "harness.merge", *paths, "--out", str(options.out.absolute())]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False,
                          env={**os.environ, VARIABLE: language()}).returncode


def built(folder: Path, png: bool = False, both: bool = False) -> None:
    """Tell a run's verdicts and build its report, in both languages if asked."""
    from harness.record.run import read_run
    from reports import terminal

    # What was read stays; the collector need not go through it again and again, nor once when reading is over.
    gc.disable()
    try:
        run = read_run(folder)
        gc.freeze()
    finally:
        gc.enable()
    # What was measured is told even where the pages cannot be written.
    print("".join(f"{line}\n" for line in terminal.lines(run)), end="", flush=True)
    # Drawing needs matplotlib, which a run that cannot be read must not wait for.
    plot.imported(manual=False)
    from reports import report

    # So does what was imported.
    gc.freeze()
    print(report.write(run, png, both))


def alike(options: argparse.Namespace, argv: Sequence[str]) -> int:
    """Compare loss curves, print the verdict, write the pages; returns the exit code."""
    from reports.curves.aligned import aligned, lines

    first, second = options.logs, options.against
    if second is None:
        if len(first) != 2:
            raise UsageError(tell("{count} logs: give two, or those of recipe B behind --against", count=len(first)))
        first, second = first[:1], first[1:]
    if not 0 < options.margin < 1000:
        raise UsageError(tell("--margin: per cent above 0, got {value}", value=options.margin))
    found = aligned(first, second, options.margin / 100, options.column, options.pattern)
    plot.imported(manual=False)
    from reports.curves.page import report
    from reports.page import write

    page = write.write("align", options.out, partial(report, found, ["python", "-m", "reports", *argv]))
    print("\n".join([*lines(found), str(page)]))
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 slower where that was asked for, 2 bad usage or input."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> int:
    options = parser().parse_args([alias(word) for word in words])
    both = getattr(options, "lang", None) == BOTH
    if options.command == "build":
        built(options.run, options.png, both)
    elif options.command == "merge":
        status = merged(options)
        if status == EXIT_OK:
            built(options.out)
        return status
    elif options.command == "index":
        from reports import index

        print(index.build(options.results))
    elif options.command == "compare":
        return compared(options, words)
    elif options.command == "align":
        return alike(options, words)
    elif options.command == "export":
        from reports.export import write as export

        print(export.export(options.run, options.format, options.out, both))
    else:
        from reports import serve

        serve.serve(options.results, options.port)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
