"""Writes docs/results-schema.md from the event models: `python -m harness.record.schema > docs/results-schema.md`."""

from __future__ import annotations

import inspect
import re
from typing import get_args

from pydantic.fields import FieldInfo

from harness.record.events import KINDS, SCHEMA_VERSION, Event

HEAD = f"""# Results schema, version {SCHEMA_VERSION}

A run is one folder:

| file | what it holds |
|---|---|
| `journal.jsonl` | append-only, one JSON object per line, written as things happen |
| `run.json` | the summary: schema version, configuration, environment, arms, cases with status, verdicts, file list |
| `logs/` | one text log per worker |
| `figures/`, `samples/` | every picture of the report; sample grids |
| `traces/` | what ran when in a few steps of each arm: gzipped JSON for Chrome's trace viewer |
| `report.html`, `report.md` | built from the journal alone, again at any time with `python -m reports build RUN` |

`run.json` holds `verdicts[]` with `metric, arm_a, arm_b, ratio, ci_low, ci_high, blocks, word, reason, next_action`;
`ratio` is time A / time B. Times ending in `_ns` are nanoseconds of CLOCK_MONOTONIC or durations; stamps begin anew
behind a `resume` line before which the machine was restarted. A quantity that could not be read is `null`.

Every journal line has `type` and `t_ns` (the stamp of its writing). Its last two keys are `seq`, the line's number
from 0, and `crc`, eight hexadecimal digits: the CRC-32 of all bytes of the line before `,"crc":`. A line without both
keys, or whose checksum does not match, is left out, a copy of a line counts once, lines out of place are put back, and
numbers that are missing are named; `damage` in `run.json` and the report's findings say so. Of two lines that tell of
the same thing (the same window of the same block, images of the same arm and cell, ...) the newer one counts, so that
what a resumed run does again is never counted or shown twice. On a full disk no part of a line is left behind. The
kinds:
"""  # English


def markdown() -> str:
    """The whole page, one section for each kind of journal line."""
    return HEAD + "".join(section(event) for event in KINDS)


def section(event: type[Event]) -> str:
    """One kind of line: its docstring and a table of its fields."""
    text = inspect.cleandoc(event.__doc__ or "")
    rows = [row(name, field) for name, field in event.model_fields.items() if name not in ("type", "t_ns")]
    kind = event.model_fields["type"].default
    return f"\n## `{kind}`\n{text}\n\n| field | type | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def row(name: str, field: FieldInfo) -> str:
    """One field as a table row."""
    annotation = field.annotation
    kind = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    kind = re.sub(r"typing\.|harness\.record\.events\.(base\.)?", "", kind)
    kind = re.sub(r"Literal\['A'[^\]]*\]", "slot", kind).replace("|", "\\|")
    return f"| `{name}` | {kind} | {field.description or ''} |"


if __name__ == "__main__":
    print(markdown(), end="")
