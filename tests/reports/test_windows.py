"""Windows as arrays say what the windows themselves say, one by one."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from harness.record.events import Window
from reports.view.run import ArmView, paired_ratios, rate_per_s
from reports.view.windows import Windows, grouped, pairs_in_blocks, spent_ns


def windows(slot: str, kind: str, seed: int, cells: tuple[str | None, ...] = (None,)) -> list[Window]:
    """Some of the pairs of four blocks, in no order, with a window that has no step."""
    chance = random.Random(f"{slot}{seed}")
    found = []
    for block in (3, 0, 7, 1):
        for cell in cells:
            for pair in chance.sample(range(9), chance.randint(2, 9)):
                steps = chance.randint(0 if pair == 4 else 1, 3)
                start = chance.randint(10**15, 2 * 10**15)
                step_ns = [chance.randint(1, 10**6) for _ in range(steps)] if kind == "stepwise" else []
                found.append(Window(t_ns=start, kind=kind, arm=slot, block=block, pair=pair, position=0, start_ns=start,
                                    end_ns=start + chance.randint(10, 10**7), steps=steps, step_ns=step_ns, cell=cell))
    return found


def arm(slot: str, lines: list[Window], blocks: frozenset[int] | None = None) -> ArmView:
    return ArmView(slot, slot, slot, {Window: lines}, blocks)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["stepwise", "free"])
def test_ratios_are_those_of_windows_of_one_block_and_pair(kind: str, seed: int) -> None:
    one, other = (arm(slot, windows(slot, kind, seed)) for slot in "AB")
    below = {(w.block, w.pair): spent_ns(w) / w.steps for w in other.windows(kind) if w.steps}
    expected: dict[int, list[float]] = {}
    for w in one.windows(kind):
        if w.steps and (w.block, w.pair) in below:
            expected.setdefault(w.block, []).append(spent_ns(w) / w.steps / below[w.block, w.pair])
    found = paired_ratios(one, other, kind)
    assert {block: ratios.tolist() for block, ratios in found.items()} == expected
    assert list(found) == sorted(expected)


def test_an_arm_without_windows_has_no_ratios_and_no_rate() -> None:
    one, nobody = arm("A", windows("A", "free", 0)), arm("B", [])
    assert paired_ratios(one, nobody, "free") == paired_ratios(nobody, one, "free") == {}
    assert rate_per_s(nobody, "free") is None and nobody.tables == ()
    assert pairs_in_blocks([nobody.table("free")], None) == set()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cell", [None, "ddim-50"])
def test_pairs_are_counted_in_every_block_and_cell(cell: str | None, seed: int) -> None:
    lines = [windows(slot, "sample", seed, ("ddim-50", "ddpm-1000")) for slot in "AB"]
    pairs = {(w.block, w.cell, w.pair) for own in lines for w in own if cell in (None, w.cell)}
    assert pairs_in_blocks([Windows(own) for own in lines], cell) == set(
        Counter((block, one) for block, one, _ in pairs).values())


@pytest.mark.parametrize("seed", range(20))
def test_steps_begin_where_those_before_them_in_their_window_end(seed: int) -> None:
    lines = windows("A", "stepwise", seed)
    assert Windows(lines).step_start_ns.tolist() == [
        w.start_ns + sum(w.step_ns[:step]) for w in lines for step in range(len(w.step_ns))]
    assert Windows(lines).step_ns.tolist() == [ns for w in lines for ns in w.step_ns]


def test_windows_in_blocks_that_do_not_count_have_a_table_of_their_own() -> None:
    lines = windows("A", "stepwise", 0) + windows("A", "free", 0)
    seen = arm("A", lines, frozenset({0, 7}))
    assert sorted(w.start_ns for table in seen.tables for w in table.lines) == sorted(w.start_ns for w in lines)
    assert {w.block for w in seen.tables[-1].lines} == {3, 1}
    assert set(seen.steps_by_block) == {0, 7}


def test_a_number_of_any_size_hides_no_other() -> None:
    one, other = ([Window(kind="free", arm=slot, block=block, pair=pair, position=0, start_ns=0, end_ns=end, steps=1,
                          step_ns=[]) for block, pair in ((0, 2**63 - 1), (0, 0), (2**63 - 1, -(2**63)))]
                  for slot, end in (("A", 6), ("B", 3)))
    ratios = paired_ratios(arm("A", one), arm("B", other), "free")
    assert {block: found.tolist() for block, found in ratios.items()} == {0: [2, 2], 2**63 - 1: [2]}
    assert pairs_in_blocks([Windows(one), Windows(other)], None) == {2, 1}


def test_values_are_grouped_in_their_order() -> None:
    found = grouped(np.array([3, 0, 3, 0, 5]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert {number: values.tolist() for number, values in found.items()} == {0: [2, 4], 3: [1, 3], 5: [5]}
    assert grouped(np.array([], dtype=np.int64), np.array([])) == {}
