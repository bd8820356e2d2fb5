"""The exported tables, row by row type; `python -m reports.export.schema > docs/export-schema.md` describes them."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from reports.export.columns import (
    Arm,
    Block,
    Cell,
    Dirty,
    Images,
    Kind,
    OptionalSlot,
    Pair,
    Position,
    RunId,
    Slot,
)
from reports.suites.registry import CHAPTERS

SCHEMA_VERSION = 1
# A text that begins so is run by spreadsheets, or holds the mark that says it would have been.
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "'")

class RunRow(NamedTuple):
    """The run itself, one row."""

    run_id: RunId
    suite: Annotated[str | None, "as in `--suite`"]
    started_utc: Annotated[str | None, "ISO 8601"]
    status: Annotated[str, "complete, failed, interrupted, or unfinished"]
    device: Annotated[str | None, "cpu or cuda"]
    preset: Annotated[str | None, "name of the network's preset"]
    dataset: Annotated[str | None, "name of the data set; null where none was read"]
    train_batch_size: Annotated[int | None, "images per training step"]
    sample_batch_size: Annotated[int | None, "images per sampled batch"]
    seed: Annotated[int | None, "seed of the experiment"]
    config_sha256: Annotated[str | None, "hash of the resolved configuration"]


class StepRow(NamedTuple):
    """Every measured step of stepwise windows: a training step, or one network call where the run samples."""

    run_id: RunId
    arm_slot: Slot
    arm: Arm
    block: Block
    pair: Pair
    position: Position
    kind: Kind
    step: Annotated[int, "number of the step in its window, from 0"]
    start_ns: Annotated[int, "monotonic stamp: the window's start and the durations of the steps before this one"]
    step_ns: Annotated[int, "duration of the step, synchronised"]
    cell: Cell
    images: Images
    dirty: Dirty


class WindowRow(NamedTuple):
    """Every measured window."""

    run_id: RunId
    arm_slot: Slot
    arm: Arm
    block: Block
    pair: Pair
    position: Position
    kind: Kind
    start_ns: Annotated[int, "monotonic stamp"]
    end_ns: Annotated[int, "monotonic stamp"]
    steps: Annotated[int, "steps, or network calls where the run samples"]
    spent_ns: Annotated[int, "time that counts: of the steps where the window is stepwise, else end less start"]
    cell: Cell
    images: Images
    others_cpu_ns: Annotated[int | None, "CPU time of the waiting arms during the window; null where not read"]
    dirty: Dirty


class VerdictRow(NamedTuple):
    """Every recorded verdict; `ratio` is time A / time B, so above 1 means that B is faster."""

    run_id: RunId
    metric: Annotated[str, "what was compared"]
    cell: Cell
    arm_slot_a: Annotated[str, "letter of arm A"]
    arm_a: Arm
    arm_slot_b: Annotated[str, "letter of arm B"]
    arm_b: Arm
    ratio: Annotated[float | None, "time A / time B"]
    ci_low: Annotated[float | None, "lower end of the interval"]
    ci_high: Annotated[float | None, "upper end of the interval"]
    blocks: Annotated[int, "blocks that the ratio rests on"]
    word: Annotated[str, "A-faster, B-faster, equivalent, inconclusive or not-comparable"]
    reason: Annotated[str | None, "why the word is not decisive"]
    next_action: Annotated[str | None, "what to do"]
    mean_ratio: Annotated[float | None, "ratio of mean times, spikes included"]
    sign_flip_p: Annotated[float | None, "exact p-value of no difference"]
    further_blocks: Annotated[int | None, "blocks missing for a decision at the spread seen"]
    alpha: Annotated[float | None, "1 - level of the interval"]
    look: Annotated[int | None, "number of the planned look that it ended at, or before; null where one was planned"]
    looks: Annotated[int | None, "planned looks; null where one was planned"]
    look_alpha: Annotated[float | None, "what all comparisons share at that look; null where one was planned"]
    look_reached: Annotated[bool, "whether as many blocks were measured as the look was planned at"]
    precision: Annotated[str | None, "the number format of both arms: float32, tf32, float16 or bfloat16; null where "
                                     "they differ, and for float32 on the CPU"]


class CaseRow(NamedTuple):
    """The status of every unit of work."""

    run_id: RunId
    case_id: Annotated[str, "name of the unit of work"]
    arm_slot: OptionalSlot
    arm: Arm
    block: Annotated[int | None, "number of the block; null for parts of the whole run"]
    status: Annotated[str, "measured, failed or skipped"]
    reason: Annotated[str | None, "why it failed or was skipped"]
    log: Annotated[str | None, "log file relative to the run's folder"]


class SampleRow(NamedTuple):
    """Telemetry in long form: one row per stamp, source and quantity."""

    run_id: RunId
    t_ns: Annotated[int, "monotonic stamp"]
    source: Annotated[str, "host, process:A, gpu:0, ..."]
    quantity: Annotated[str, "what was read, with its unit in the name"]
    value: Annotated[float | None, "the reading; null where it could not be read"]


# What one suite alone measures; every run's export has these tables too, with or without rows.
OF_SUITES = {name: table for chapter in CHAPTERS for name, table in chapter.exported().items()}
ROWS: dict[str, type[Any]] = {
    "runs": RunRow,
    "steps": StepRow,
    "windows": WindowRow,
    "verdicts": VerdictRow,
    "cases": CaseRow,
    "samples": SampleRow,
    **{name: table.kind for name, table in OF_SUITES.items()},
}
# Type in the code -> name in the page, and pandas' nullable dtype, which keeps integers with nulls exact.
KINDS: dict[type, tuple[str, str]] = {
    str: ("text", "string"),
    int: ("integer", "Int64"),
    float: ("number", "Float64"),
    bool: ("boolean", "boolean"),
}


class Column(NamedTuple):
    """One column: type in the page, pandas dtype, whether it may be null, and its meaning."""

    name: str
    kind: str
    dtype: str
    nullable: bool
    meaning: str


def columns(table: str) -> list[Column]:
    """The columns of a table, in order."""
    found = []
    for name, hint in get_type_hints(ROWS[table], include_extras=True).items():
        annotation, meaning = get_args(hint)
        kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
        found.append(Column(name, *KINDS[kinds[0]], NoneType in get_args(annotation), meaning))
    return found


HEAD = f"""# Export schema, version {SCHEMA_VERSION}

`python -m reports export RUN --format csv|parquet|json` writes a run's measurements as tidy tables.

- **csv**, **parquet**: a folder (default `RUN/export/`) with one file per table, also for tables without rows.
- **json**: one file (default `RUN/export.json`): `schema_version`, `run_id`, and `tables`, each a list of objects.

Tables and columns are always all there. Each file is replaced at once: a reader sees the old or the new one. Lines of
the journal that cannot be read are left out, and the command says so.

- What is missing is null, never 0; NaN and infinities are null as well. In CSV a null is an empty field.
- Times ending in `_ns` are nanoseconds: durations, or stamps of CLOCK_MONOTONIC, comparable within one run
  unless the machine was restarted before a `--resume`, which begins them anew.
- **Texts in CSV**: a text that begins with `=`, `+`, `-`, `@`, a tab, a carriage return or `'` has one `'` put before
  it, because a spreadsheet would run it as a formula, and journals may come from strangers. Take off one leading `'`
  to get the text back. Parquet and JSON hold texts as they are.

```python
import pandas as pd

def read(table):  # "RUN/export/steps.parquet" or "RUN/export/steps.csv"
    if table.endswith(".parquet"):
        return pd.read_parquet(table)
    return pd.read_csv(table, keep_default_na=False, na_values=[""], float_precision="round_trip")
```
"""  # English


def markdown() -> str:
    """The whole page, one section for each table."""
    return HEAD + "".join(section(table) for table in ROWS)


def section(table: str) -> str:
    """One table: its rows' docstring and its columns."""
    text = inspect.cleandoc(ROWS[table].__doc__ or "")
    rows = [f"| `{c.name}` | {c.kind}{' or null' if c.nullable else ''} | `{c.dtype}` | {c.meaning} |"  # English
            for c in columns(table)]  # fmt: skip
    head = "| column | type | pandas | meaning |\n|---|---|---|---|"
    return "\n".join(["", f"## `{table}`", text, "", head, *rows, ""])


if __name__ == "__main__":
    print(markdown(), end="")
