"""The same arms across runs: what is found, how often in vain, what the control takes out, and what is printed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from journals import sealed
from light_runs import Light, recorded, write
from scipy import stats

from harness.record.run import read_run
from impls.errors import UsageError
from reports import __main__ as command_line
from reports.compare.runs import Comparison, Subject, compare, holm, measured, pair_rows

BEFORE = Light(seed=1)
FIRST_STEP = re.compile(r'"step_ns":\[\d+\]')


def changed(seed: int, pytorch: float = 1.0, jittor: float = 1.0, **more: object) -> Light:
    return Light(arms=(("pytorch", 100.0 * pytorch), ("jittor", 150.0 * jittor)), seed=seed, **more)  # type: ignore[arg-type]


def compared(folder: Path, before: Light, *after: Light, **options: object) -> Comparison:
    paths = [write(folder / str(i), light) for i, light in enumerate((before, *after))]
    return compare(paths, **options)  # type: ignore[arg-type]


def words(comparison: Comparison, pair: int = 0) -> dict[str, str | None]:
    return {str(row.subject): row.verdict and row.verdict.word for row in comparison.pairs[pair].rows}


def test_the_ratio_and_its_interval_are_scipys_on_block_medians(tmp_path: Path) -> None:
    found = compared(tmp_path, Light(seed=1, arms=(("a", 100.0),)), Light(seed=2, arms=(("a", 103.0),), blocks=6))

    def logs(path: Path) -> np.ndarray:
        blocks: dict[int, list[int]] = {}
        for window in read_run(path).events:
            if window.type == "window":
                blocks.setdefault(window.block, []).append(window.step_ns[0])
        return np.log([np.median(times) for times in blocks.values()])

    before, after = logs(tmp_path / "0"), logs(tmp_path / "1")
    low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    (row,) = found.pairs[0].rows
    assert row.direct.ratio == pytest.approx(math.exp(after.mean() - before.mean()))
    assert (row.direct.ci_low, row.direct.ci_high) == pytest.approx((math.exp(low), math.exp(high)))
    assert (row.direct.blocks_before, row.direct.blocks_after) == (8, 6)
    assert row.before_ns == pytest.approx(np.exp(before.mean())) and row.relative is None


@pytest.mark.parametrize("edge", [1.0, 1.01])
def test_arms_within_the_margin_raise_an_alarm_in_at_most_five_per_cent_of_pairs(edge: float) -> None:
    """Two arms, the whole way from the journal's events: unchanged, and at the margin, the worst case."""
    alarms, runs = 0, 150
    for seed in range(runs):
        made = [Light(seed=2 * seed + i, blocks=6, pairs=4, spread=0.01) for i in range(2)]
        made[1].arms = tuple((name, ms * edge) for name, ms in made[1].arms)
        before, after = (recorded(light) for light in made)
        (rows,) = holm([pair_rows(before, measured(before), measured(after), None)])
        alarms += any(row.verdict and row.verdict.word == "slower" for row in rows)
    assert alarms / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_the_same_values_twice_are_never_slower(tmp_path: Path) -> None:
    one = write(tmp_path / "a", BEFORE)
    other = write(tmp_path / "b", BEFORE, lambda text: text.replace('"light-1"', '"light-2"'))
    found = compare([one, other])
    assert set(words(found).values()) <= {"equivalent", "inconclusive"}
    assert all(row.verdict and row.verdict.ratio == 1.0 for row in found.pairs[0].rows)


def test_a_slow_down_of_three_per_cent_is_found_in_the_arm_that_has_it(tmp_path: Path) -> None:
    found = compared(tmp_path, BEFORE, changed(2, jittor=1.03))
    assert words(found) == {"pytorch": "equivalent", "jittor": "slower"}
    jittor = found.pairs[0].rows[1]
    assert jittor.verdict and jittor.verdict.ratio == pytest.approx(1.03, abs=0.008)
    assert jittor.relative and jittor.relative.word == "slower" and jittor.control == "pytorch"
    assert words(compare([tmp_path / "1", tmp_path / "0"]))["jittor"] == "faster"


def test_a_control_takes_out_what_moved_the_whole_machine(tmp_path: Path) -> None:
    before, after = Light(seed=1, shared=0.05), changed(2, pytorch=1.06, jittor=1.06, shared=0.05)
    direct = compared(tmp_path, before, after)
    assert words(direct)["jittor"] != "equivalent"
    relative = compare([tmp_path / "0", tmp_path / "1"], control="pytorch")
    assert words(relative) == {"pytorch": None, "jittor": "equivalent"}
    row = relative.pairs[0].rows[1]
    assert row.relative and row.relative.ratio == pytest.approx(1.0, abs=0.01)
    assert row.direct.ratio == direct.pairs[0].rows[1].direct.ratio


def test_holm_spans_arms_and_runs(tmp_path: Path) -> None:
    found = compared(tmp_path, BEFORE, changed(2, jittor=1.2), changed(3))
    assert words(found, 1) == {"pytorch": "equivalent", "jittor": "equivalent"}
    alphas = sorted(row.direct.alpha for pair in found.pairs for row in pair.rows)
    assert alphas == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3])


def test_sampling_is_judged_cell_by_cell_and_lonely_cells_and_arms_are_listed(tmp_path: Path) -> None:
    before = Light(seed=1, cells=("ddim-10", "ddim-50"), arms=(("pytorch", 100.0), ("jittor", 150.0)))
    after = Light(seed=2, cells=("ddim-10", "ddim-20"), arms=(("pytorch", 110.0), ("jittor:amp", 90.0)))
    found = compared(tmp_path, before, after)
    assert words(found) == {"pytorch, ddim-10": "slower"}
    alone = found.pairs[0].alone
    metric = "sampling time"
    assert alone[Subject("pytorch", metric, "ddim-50")] == "A"
    assert alone[Subject("jittor:amp", metric, "ddim-20")] == "B" and len(alone) == 6


def test_the_same_arm_twice_is_matched_by_its_turn(tmp_path: Path) -> None:
    twice = (("pytorch", 100.0), ("pytorch", 130.0))
    found = compared(tmp_path, Light(seed=1, arms=twice), Light(seed=2, arms=twice))
    assert words(found) == {"pytorch": "equivalent", "pytorch (2)": "equivalent"}
    assert [row.slot for row in found.pairs[0].rows] == ["A", "B"]


def test_failed_arms_and_disturbed_blocks_count_as_in_one_run(tmp_path: Path) -> None:
    found = compared(tmp_path, BEFORE, changed(2, unfinished=("jittor",), dirty=(0, 1)))
    assert list(words(found)) == ["pytorch"]
    assert found.pairs[0].alone == {Subject("jittor", "step time"): "A"}
    assert found.pairs[0].rows[0].logs[1].dirty == (True, True, *[False] * 6)


def test_the_command_prints_the_verdicts_and_exits_1_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = write(tmp_path / "a", BEFORE), write(tmp_path / "b", changed(2, jittor=1.03))
    assert command_line.main(["compare", str(one), str(other)]) == 0
    assert command_line.main(["compare", str(one), str(other), "--fail-on", "slower", "--out", "here/pages"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"(?m)^B  +jittor +step time +8 \+ 8 +1\.0\d+ \[1\.0\d+, 1\.0\d+\] +slower$", printed)
    assert "no interval covers it" in printed and printed.endswith("here/pages/compare.html\n")
    assert command_line.main(["compare", str(other), str(one), "--fail-on", "slower"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "here", "compare-a-b", "compare-b-a"}
    assert {path.name for path in (tmp_path / "compare-a-b").iterdir()} == {"compare.html", "compare.md", "figures"}


def test_an_arm_that_failed_or_is_missing_later_is_listed_and_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "a", BEFORE)
    failed = write(tmp_path / "failed", Light(seed=2, arms=BEFORE.arms, unfinished=("jittor",)))
    missing = write(tmp_path / "missing", Light(seed=2, arms=BEFORE.arms[:1]))
    for later in (failed, missing):
        out = str(tmp_path / "out" / later.name)
        assert command_line.main(["compare", str(one), str(later), "--fail-on", "slower", "--out", out]) == 0
        assert "not compared: jittor is only in A" in capsys.readouterr().out


BAD = {
    "one run": (["a"], "at least two runs"),
    "missing": (["a", "none"], "not a run folder"),
    "twice": (["a", "a"], "the same run"),
    "a copy": (["a", "copy"], "the same run"),
    "empty": (["a", "empty"], "says what this run measured"),
    "garbage": (["a", "garbage"], "line 1 cannot be read"),
    "nothing measured": (["a", "failed"], "share no arm"),
    "no common arm": (["a", "others"], "share no arm"),
    "unknown control": (["a", "b", "--control", "numpy"], "those are jittor, pytorch"),
    "only the control": (["c", "d", "--control", "pytorch"], "besides the control"),
    "unwritable": (["a", "b", "--out", "file/x"], "cannot write"),
    "bad word": (["a", "b", "--fail-on", "faster"], "--fail-on"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"blocks": 2, "pairs": 2}
    write(Path("a"), Light(seed=1, **small))
    write(Path("b"), Light(seed=2, **small))
    write(Path("copy"), Light(seed=1, **small))
    write(Path("failed"), Light(seed=3, unfinished=("pytorch", "jittor"), **small))
    write(Path("others"), Light(seed=4, arms=(("jittor:onednn", 1.0),), **small))
    for i, one in enumerate("cd"):
        write(Path(one), Light(seed=5 + i, arms=(("pytorch", 1.0),), **small))
    for one, text in (("empty", ""), ("garbage", "\x00{]\n\x1b[31m")):
        Path(one).mkdir()
        Path(one, "journal.jsonl").write_text(text)
    Path("file").write_text("")
    before = set(tmp_path.iterdir())
    arguments, message = BAD[name]
    assert command_line.main(["compare", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("python -m reports: error: ") and printed.err.count("\n") == 1
    assert message in printed.err and "\x1b" not in printed.err
    assert set(tmp_path.iterdir()) == before


def test_absurd_stamps_of_a_journal_are_left_out(tmp_path: Path) -> None:
    one = write(tmp_path / "a", BEFORE)
    other = write(tmp_path / "b", changed(2), lambda text: FIRST_STEP.sub(f'"step_ns":[{10**400}]', text, count=1))
    assert set(words(compare([one, other]))) == {"pytorch", "jittor"}
    (tmp_path / "b" / "journal.jsonl").write_text(
        "\n".join(sealed(FIRST_STEP.sub('"step_ns":[-5]', (tmp_path / "b" / "journal.jsonl").read_text()).splitlines()))
    )
    with pytest.raises(UsageError, match="share no arm"):
        compare([one, other])
