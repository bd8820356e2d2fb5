"""Exported tables: what the journal holds, the same in every format, with the columns that the page promises."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
from light_runs import Light, write
from synthetic_sampling import Sampling, write_sampling

from harness.record.events import BlockState, Case, Figure, Quality, Sample, Verdict, Window
from harness.record.run import read_run
from harness.record.writer import RunWriter
from reports import __main__ as command_line
from reports.export.schema import ROWS, columns, markdown
from reports.export.write import export

ROOT = Path(__file__).parents[2]
QUALITY = Quality(
    arm="B", cell="ddim-50", train_steps=None, extractor="inception", label="FID", images=5000, ladder=[], interval="b",
    figures=[Figure(metric="fd", value=12.5, ci_low=11.0, ci_high=math.inf),
             Figure(metric="kid", value=None, reason="too few images")],
)  # fmt: skip


def read_csv(path: Path) -> pd.DataFrame:
    """As the page of the schema says."""
    dtypes = {column.name: column.dtype for column in columns(path.stem)}
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], float_precision="round_trip", dtype=dtypes)
    for name in table.select_dtypes("string").columns:
        table[name] = table[name].str.replace("^'", "", regex=True)
    return table


def read_json(path: Path) -> dict[str, pd.DataFrame]:
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    found = {}
    for name, records in tables.items():
        kinds = {column.name: column.dtype for column in columns(name)}
        found[name] = pd.DataFrame(records, columns=list(kinds), dtype=object).astype(kinds)
    return found


def add(folder: Path, *events: Any) -> Path:
    writer = RunWriter(folder)
    for event in events:
        writer.append(event)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "train"
    scenario = synthetic.Scenario(blocks=4, pairs=3, fail="B", end="failed")
    return add(synthetic.write_run(folder, scenario), QUALITY)


@pytest.fixture(scope="module")
def sampling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenario = Sampling(blocks=2, pairs=2, cells={"ddim-10": 10, "ddim-50": 50}, pictures=False)
    return write_sampling(tmp_path_factory.mktemp("export") / "sample", scenario)


@pytest.mark.parametrize("which", ["training", "sampling"])
def test_all_formats_hold_the_same(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = request.getfixturevalue(which)
    for kind in ("csv", "parquet"):
        assert export(run, kind, tmp_path / kind) == tmp_path / kind  # type: ignore[arg-type]
    as_json = read_json(export(run, "json", tmp_path / "all.json"))
    assert set(as_json) == set(ROWS)
    for name in ROWS:
        table = pd.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        assert {column: str(kind) for column, kind in table.dtypes.items()} == {c.name: c.dtype for c in columns(name)}
        for other in (read_csv(tmp_path / "csv" / f"{name}.csv"), as_json[name]):
            pd.testing.assert_frame_equal(table, other, check_dtype=True, check_exact=True)


def test_the_tables_hold_every_event_of_the_journal(training: Path, tmp_path: Path) -> None:
    run, tables = read_run(training), read_json(export(training, "json", tmp_path / "t.json"))
    windows = run.of(Window)
    steps = tables["steps"]
    assert len(steps) == sum(len(window.step_ns) for window in windows) > 0
    assert steps["step_ns"].sum() == sum(sum(window.step_ns) for window in windows)
    assert len(tables["windows"]) == len(windows) and set(tables["windows"]["kind"]) == {"stepwise", "free"}
    assert len(tables["samples"]) == sum(len(sample.values) for sample in run.of(Sample))
    assert len(tables["cases"]) == len({case.case_id for case in run.of(Case)})
    failed = tables["cases"].query("status == 'failed'").iloc[0]
    assert failed["arm"] == "jittor" and "exit code -9" in failed["reason"]
    verdict, recorded = tables["verdicts"].iloc[0], run.of(Verdict)[0]
    assert (verdict["ratio"], verdict["arm_a"], verdict["word"]) == (recorded.ratio, "pytorch", recorded.word)
    dirty = {state.block for state in run.of(BlockState) if state.dirty}
    assert set(steps[steps["dirty"]]["block"]) == dirty == {3}
    assert tables["runs"].iloc[0][["run_id", "suite", "train_batch_size"]].tolist() == ["train", "train-speed", 8]


def test_steps_start_one_after_another_in_their_window(sampling: Path, tmp_path: Path) -> None:
    tables = read_json(export(sampling, "json", tmp_path / "t.json"))
    first = next(window for window in read_run(sampling).of(Window) if window.kind == "stepwise")
    rows = tables["steps"].head(first.steps)
    assert rows["step"].tolist() == list(range(first.steps)) and rows["step_ns"].tolist() == first.step_ns
    assert rows["start_ns"].tolist() == [first.start_ns + sum(first.step_ns[:i]) for i in range(first.steps)]
    batches = tables["windows"].query("kind == 'sample'")
    assert set(batches["cell"]) == {"ddim-10", "ddim-50"} and set(batches["images"]) == {4}
    assert (batches["spent_ns"] == batches["end_ns"] - batches["start_ns"]).all()


def test_what_is_missing_is_null_in_every_format_and_never_zero(training: Path, tmp_path: Path) -> None:
    export(training, "csv", tmp_path)
    text = (tmp_path / "quality.csv").read_text()
    assert "12.5,11.0,,\n" in text and "kid,,,,too few images\n" in text and "inf" not in text
    records = json.loads(export(training, "json", tmp_path / "t.json").read_text())["tables"]
    assert [row["ci_high"] for row in records["quality"]] == [None, None]
    assert records["steps"][0]["cell"] is None and records["steps"][0]["images"] is None
    assert records["quality"][0]["train_steps"] is None


def test_unread_telemetry_and_open_blocks_are_null(tmp_path: Path) -> None:
    light = Light(blocks=2, pairs=1)
    run = write(tmp_path / "run", light, lambda text: text.replace('"type":"block"', '"type":"gone"'))
    add(run, Sample(source="gpu:0", values={"power_mw": None, "memory_used_bytes": 2**60 + 1, "odd": math.nan}))
    tables = json.loads(export(run, "json").read_text())["tables"]
    assert [row["value"] for row in tables["samples"]] == [None, float(2**60 + 1), None]
    assert {row["dirty"] for row in tables["steps"]} == {None}
    assert {row["others_cpu_ns"] for row in tables["windows"]} == {None}


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "'quoted", 'a"b,c\nd', "NA", "", synthetic.NASTY]


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_of_strangers_run_nothing_and_come_back_whole(name: str, tmp_path: Path) -> None:
    run = write(tmp_path / "run", Light(arms=((name, 1.0),), blocks=1, pairs=1))
    export(run, "csv", tmp_path / "csv")
    export(run, "parquet", tmp_path / "parquet")
    with (tmp_path / "csv" / "steps.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert not row["arm"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row["arm"] in (name, f"'{name}") and len(row) == len(columns("steps"))
    assert pd.read_parquet(tmp_path / "parquet" / "steps.parquet")["arm"].tolist() == [name]
    arms = read_csv(tmp_path / "csv" / "steps.csv")["arm"].tolist()
    assert arms == [name] if name else arms[0] is pd.NA


def test_a_carriage_return_cannot_start_a_cell(tmp_path: Path) -> None:
    run = write(tmp_path / "run", Light(arms=(("\r=1+1", 1.0),), blocks=1, pairs=1))
    export(run, "csv", tmp_path / "csv")
    assert b"'\r=1+1" in (tmp_path / "csv" / "steps.csv").read_bytes()


def test_the_page_of_the_schema_is_current() -> None:
    page = (ROOT / "docs" / "export-schema.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m reports.export.schema > docs/export-schema.md"


def test_every_column_says_what_it_means() -> None:
    for name in ROWS:
        assert all(column.meaning and column.name in ROWS[name]._fields for column in columns(name))
        assert tuple(column.name for column in columns(name)) == ROWS[name]._fields


def test_the_command_writes_into_the_run_and_replaces_what_is_there(
    training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert command_line.main(["export", str(training), "--format", "parquet"]) == 0
        assert command_line.main(["export", str(training), "--format", "json"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [str(training / "export"), str(training / "export.json")]
    assert {file.name for file in (training / "export").iterdir()} == {f"{name}.parquet" for name in ROWS}


BAD = {
    "missing": (["none", "--format", "csv"], "not a run folder"),
    "format": (["run", "--format", "xlsx"], "xlsx"),
    "no format": (["run"], "--format"),
    "empty": (["empty", "--format", "json"], "nothing to export"),
    "file": (["run", "--format", "csv", "--out", "file"], "cannot write"),
    "folder": (["run", "--format", "json", "--out", "run"], "cannot write"),
    "section, missing": (["none", "--format", "readme"], "not a run folder"),
    "section, empty": (["empty", "--format", "readme"], "nothing to export"),
    "section, file": (["run", "--format", "readme", "--out", "file"], "file: cannot write the section"),
    "section, itself": (["run", "--format", "readme", "--out", "."], "written into the run itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("run"), Light(blocks=1, pairs=1))
    Path("empty").mkdir()
    Path("empty", "journal.jsonl").write_text("")
    Path("file").write_text("")
    arguments, message = BAD[name]
    assert command_line.main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("python -m reports: error: ") and printed.err.count("\n") == 1
    assert message in printed.err
    assert not [file for file in tmp_path.rglob(".*")] and not list(tmp_path.rglob("*.parquet"))


def test_damaged_lines_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    light = Light(blocks=1, pairs=2)
    run = write(tmp_path / "run", light, lambda text: text.replace('{"t_ns":1,', '{"t_ns":,', 1) + "{")
    export(run, "json")
    assert "2 lines of" in capsys.readouterr().err
    rows = json.loads((run / "export.json").read_text())["tables"]["steps"]
    assert len(rows) == 4 and {row["arm"] for row in rows} == {None} and {row["arm_slot"] for row in rows} == {"A", "B"}


def test_neither_the_command_line_nor_json_load_pandas(tmp_path: Path) -> None:
    run = write(tmp_path / "run", Light(blocks=1, pairs=1))
    code = (
        "import sys; from reports.__main__ import main; "
        f"assert main(['export', {str(run)!r}, '--format', 'json']) == 0; main(['export', 'none', '--format', 'csv']); "
        "print(sorted({'pandas', 'pyarrow', 'matplotlib', 'scipy', 'torch', 'jittor'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
