"""Writes a run's tables as CSV, Parquet or JSON, which docs/export-schema.md describes, or has its pack written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.record.run import JOURNAL, read_run
from harness.record.writer import write_atomically
from impls.errors import UsageError
from impls.store.files import replacement
from messages import plural, tell
from reports.export.rows import tables
from reports.export.schema import DANGEROUS, SCHEMA_VERSION, columns
from reports.text import printable

if TYPE_CHECKING:
    from pandas import DataFrame

Format = Literal["csv", "parquet", "json", "readme"]


def export(run_dir: Path, kind: Format, out: Path | None = None, both: bool = False) -> Path:
    """Write all tables of a run, or a section of a README.

    Args:
        run_dir: the run's folder.
        kind: csv, parquet: one file per table in a folder; json: one file; readme: a section and a folder beside it.
        out: the folder or file; `export/`, `readme/` or `export.json` in the run's folder when None.
        both: write the section in English and in Chinese; tables have but one language.

    Returns:
        the folder or file written; of a README, the section.

    Raises:
        UsageError: no readable run, nothing measured, or the target cannot be written.
    """
    run = read_run(run_dir)
    found = tables(run)
    if run.damage:
        print(tell("warning: {lines} of {journal} left out: {damage}", lines=plural(len(run.damage), "line"),
                   journal=run_dir / JOURNAL, damage=printable(run.damage[0])), file=sys.stderr)  # fmt: skip
    if not any(rows for name, rows in found.items() if name != "runs"):
        raise UsageError(tell("{folder}: nothing to export: its journal holds no measurement", folder=run_dir))
    if kind == "readme":
        from reports.pack.write import pack

        return pack(run, out, both)
    target = out or run_dir / ("export.json" if kind == "json" else "export")
    try:
        if kind == "json":
            if target.is_dir():
                raise IsADirectoryError(EISDIR, tell("it is a folder"))
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, as_json(run_dir.resolve().name, found))
        else:
            frames = {name: frame(name, rows) for name, rows in found.items()}
            target.mkdir(parents=True, exist_ok=True)
            for name, table in frames.items():
                write_table(target / f"{name}.{kind}", table, kind)
    except OSError as error:
        raise UsageError(tell("{place}: cannot write the export ({reason}): give another place with --out",
                              place=target, reason=error.strerror or error)) from error
    return target


def as_json(run_id: str, found: dict[str, list[tuple[Any, ...]]]) -> str:
    """All tables as one document, a list of objects each."""
    records = {}
    for name, rows in found.items():
        names = [column.name for column in columns(name)]
        records[name] = [dict(zip(names, row, strict=True)) for row in rows]
    content = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "tables": records}
    return json.dumps(content, allow_nan=False) + "\n"


def frame(name: str, rows: Sequence[tuple[Any, ...]]) -> DataFrame:
    """A table with the dtypes of its schema."""
    # Slow to load, and neither the report nor a fault on the command line needs it.
    import pandas as pd

    dtypes = {column.name: column.dtype for column in columns(name)}
    # As objects first: pandas would make numbers with nulls floats, which do not hold every integer.
    return pd.DataFrame(rows, columns=list(dtypes), dtype=object).astype(dtypes)


def write_table(path: Path, table: DataFrame, kind: Literal["csv", "parquet"]) -> None:
    """Replace a file by a table, at once.

    Raises:
        OSError: it cannot be written.
    """
    with replacement(path, durable=True) as scratch:
        if kind == "csv":
            harmless(table).to_csv(scratch, index=False, lineterminator="\n")
        else:
            table.to_parquet(scratch, engine="pyarrow", index=False)


def harmless(table: DataFrame) -> DataFrame:
    """The table with an apostrophe before every text that a spreadsheet would run as a formula."""
    texts = {name: table[name] for name in table.select_dtypes("string")}
    return table.assign(**{name: text.mask(text.str.startswith(DANGEROUS), "'" + text) for name, text in texts.items()})
