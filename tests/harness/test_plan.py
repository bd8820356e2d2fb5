"""Planning is a pure function: which blocks, which turns, which comparisons."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.options import BenchConfig
from harness.part import Asked, Suite
from harness.plan import SLOTS, describe, make_plans, order_seed, turn_order
from harness.record import events, plugins
from harness.record.events import Case, Event
from harness.record.lines import Told, decode, encode
from harness.suites import registry
from harness.suites.training import Training
from impls.errors import UsageError
from impls.recipe.config import preset


@given(st.integers(0, 2**31 - 1), st.integers(1, 8), st.integers(0, 200))
def test_every_arm_has_one_turn_in_every_pair(seed, arms, pair):
    assert sorted(turn_order(SLOTS[:arms], seed, pair)) == list(SLOTS[:arms])


@given(st.integers(0, 2**31 - 1))
def test_two_arms_alternate(seed):
    orders = [turn_order("AB", seed, pair) for pair in range(40)]
    assert all(one == other[::-1] for one, other in pairwise(orders))
    assert Counter(order[0] for order in orders) == {"A": 20, "B": 20}


@given(st.integers(0, 2**31 - 1))
def test_with_three_arms_everyone_is_first_equally_often_and_neighbours_change(seed):
    orders = [turn_order("ABC", seed, pair) for pair in range(12)]
    assert set(Counter(order[0] for order in orders).values()) == {4}
    followers = {(one, other) for order in orders for one, other in pairwise(order)}
    assert len(followers) == 6


def test_the_order_is_recorded_repeatable_and_different_between_blocks():
    assert [order_seed(0, block) for block in range(4)] == [order_seed(0, block) for block in range(4)]
    assert len({order_seed(seed, block) for seed in range(10) for block in range(10)}) == 100
    first = [turn_order("AB", order_seed(seed, 0), 0)[0] for seed in range(400)]
    assert 150 < first.count("A") < 250


def test_further_arms_are_compared_with_the_first():
    plan = make_plans(Asked(BenchConfig(arms="pytorch,jittor,pytorch:compile"), "cpu"))[0]
    assert [(c.a, c.b, c.selfcheck) for c in plan.comparisons] == [("A", "B", False), ("A", "C", False)]
    assert (plan.min_blocks, plan.max_blocks, plan.pairs, plan.part.parity.steps) == (6, 12, 40, 20)


def pairs(arms, device="cuda", **options):
    plan = make_plans(Asked(BenchConfig(arms=arms, **options), device))[0]
    return "".join(f" {c.a}{c.b}" for c in plan.comparisons).strip(), plan


@pytest.mark.parametrize(("arms", "compared", "together"), [
    ("pytorch,jittor,pytorch:tf32,jittor:tf32", "AB CD", ["AB", "CD"]),
    ("pytorch,pytorch:tf32,jittor,jittor:tf32", "AC BD", ["AC", "BD"]),
    ("pytorch,jittor,pytorch:bf16,pytorch:bf16+compile", "AB CD", ["AB", "CD"]),
    ("pytorch,jittor,pytorch:fp16,jittor:amp", "AB CD", ["AB", "CD"]),
    ("pytorch,jittor,pytorch:tf32,jittor:amp", "AB AC AD", ["ABCD"]),
    ("pytorch,jittor,jittor:tf32", "AB AC", ["ABC"]),
    ("pytorch,pytorch:tf32,jittor:tf32", "AB BC", ["ABC"]),
    ("pytorch,jittor:amp", "AB", ["AB"]),
    ("pytorch,pytorch", "AB", ["AB"]),
    ("pytorch:tf32,jittor:tf32,pytorch:tf32+compile", "AB AC", ["ABC"]),
])
def test_arms_are_compared_within_a_number_format_and_only_those_are_in_memory_together(arms, compared, together):
    found, plan = pairs(arms)
    assert found == compared and ["".join(group) for group in plan.groups] == together


def test_a_run_that_goes_on_compares_what_it_declared_by_whatever_rule():
    options = BenchConfig(arms="pytorch,jittor,pytorch:tf32,jittor:tf32", selfcheck=True)
    new = make_plans(Asked(options, "cuda"))[0]
    recorded = {"comparisons": [{"a": "A", "b": b, "selfcheck": False} for b in "BCD"]
                + [{"a": "A", "b": "E", "selfcheck": True}]}
    old = make_plans(Asked(options, "cuda", recorded=recorded))[0]
    assert [(c.a, c.b) for c in old.comparisons if not c.selfcheck] == [("A", "B"), ("A", "C"), ("A", "D")]
    assert [c for c in old.comparisons if c.selfcheck] == [c for c in new.comparisons if c.selfcheck]
    again = make_plans(Asked(options, "cuda", recorded=new.part.declared(new)))[0]
    assert again == new


def test_the_second_copies_of_a_selfcheck_stay_with_their_pair():
    found, plan = pairs("pytorch,jittor,pytorch:tf32,jittor:tf32", selfcheck=True)
    assert found == "AB CD AE BF CG DH" and ["".join(group) for group in plan.groups] == ["ABEF", "CDGH"]


def test_pairs_of_a_block_begin_by_its_seed_and_every_arm_has_its_turn():
    _, plan = pairs("pytorch,jittor,pytorch:tf32,jittor:tf32")
    turns = [plan.turns(plan.block(number)) for number in range(40)]
    assert {tuple(sorted(map("".join, map(sorted, turn)))) for turn in turns} == {("AB", "CD")}
    firsts = Counter(turn[0][0] for turn in turns)
    assert set(firsts) == set("ABCD") and min(firsts.values()) >= 3
    _, apart = pairs("pytorch,jittor,pytorch:tf32,jittor:tf32", schedule="sequential")
    assert all(len(group) == 1 for group in apart.turns(apart.block(0))) and len(apart.turns(apart.block(0))) == 4


def test_the_description_says_what_each_pair_compares_and_what_is_in_memory():
    _, plan = pairs("pytorch,jittor,pytorch:tf32,jittor:tf32")
    text = describe(plan, preset("ddpm"))
    for line in ("compare A with B (strict float32)", "compare C with D (TF32)",
                 "4 arms, in memory at once are only those that are compared, at most 2", ", then "):
        assert line in text
    _, unlike = pairs("pytorch,jittor:tf32")
    assert "compare A with B (strict float32 against TF32)" in describe(unlike, preset("ddpm"))
    _, plain = pairs("pytorch,jittor", device="cpu")
    assert "compare A with B\n" in describe(plain, preset("tiny"))


def test_selfcheck_puts_every_arm_beside_itself():
    plan = make_plans(Asked(BenchConfig(selfcheck=True, blocks=12), "cpu"))[0]
    assert [(slot, arm.name) for slot, arm in plan.arms] == [
        ("A", "pytorch"), ("B", "jittor"), ("C", "pytorch"), ("D", "jittor")]
    assert [(c.a, c.b, c.selfcheck) for c in plan.comparisons] == [
        ("A", "B", False), ("A", "C", True), ("B", "D", True)]
    assert (plan.min_blocks, plan.max_blocks, plan.extra_blocks) == (12, 12, 3)


def test_a_single_arm_needs_no_parity():
    assert make_plans(Asked(BenchConfig(arms="pytorch"), "cpu"))[0].part.parity is None


def test_parity_runs_as_many_steps_as_asked():
    assert make_plans(Asked(BenchConfig(suite="parity"), "cpu"))[0].part.steps == 50
    assert make_plans(Asked(BenchConfig(suite="parity", steps="7"), "cpu"))[0].part.steps == 7
    gate = make_plans(Asked(BenchConfig(suite="train-speed", steps="7"), "cpu"))[0].part.parity
    assert (gate.steps, gate.within_s) == (20, 10.0)
    whole = make_plans(Asked(BenchConfig(suite="all"), "cpu"))[0].part.parity
    assert (whole.steps, whole.within_s) == (50, None), "where parity is one of the things that are measured"


@pytest.mark.parametrize(("config", "device", "message"), [
    (BenchConfig(suite="parity", arms="pytorch"), "cpu", "give at least two"),
    (BenchConfig(arms="pytorch:tf32"), "cpu", "tf32"),
    (BenchConfig(arms="pytorch,jittor:onednn"), "cuda", "onednn"),
    (BenchConfig(arms="pytorch,jittor:norm=onednn"), "cuda", "'norm=onednn' exists only on the CPU"),
    (BenchConfig(arms=",".join(["pytorch"] * 9)), "cpu", "at most 8"),
    (BenchConfig(arms=",".join(["pytorch"] * 5), selfcheck=True), "cpu", "at most 4"),
])
def test_what_cannot_run_is_refused(config, device, message):
    with pytest.raises(UsageError, match=message):
        make_plans(Asked(config, device))[0]


def test_the_description_names_everything():
    text = describe(make_plans(Asked(BenchConfig(selfcheck=True), "cpu"))[0], preset("tiny"))
    for word in ("train-speed", "A  pytorch", "D  jittor", "compare A with B", "self-check", "6 to 8 blocks",
                 "40 pairs", "block 7", "tiny"):
        assert word in text


class Other(Event):
    """A line of another package."""

    type: Literal["other"] = "other"
    subject: ClassVar[tuple[str, ...]] = ("arm",)
    arm: str


def test_suites_and_lines_of_other_packages_join(monkeypatch, tmp_path):
    one = Suite("one", (Training,), "x")
    monkeypatch.setattr(plugins, "offered", lambda name: [({"SUITES": one, "EVENTS": Other}[name], "entry point 'x'")])
    monkeypatch.setattr(registry, "offered", plugins.offered)
    monkeypatch.setattr(events, "offered", plugins.offered)
    assert list(registry.suites()) == [*registry.SUITES, "one"]
    events.reader.cache_clear()
    try:
        lines = [encode(Other(arm=arm), number) for number, arm in enumerate("ABA")]
        assert [event.arm for event in Told(decode(b"".join(lines), tmp_path).events).events] == ["B", "A"]
    finally:
        monkeypatch.undo()
        events.reader.cache_clear()
    assert len(decode(lines[0], tmp_path).damage) == 1


@pytest.mark.parametrize("offered", [Suite("all", (Training,), "x"), Training, None])
def test_what_is_no_suite_of_its_own_is_refused(monkeypatch, offered):
    monkeypatch.setattr(registry, "offered", lambda name: [(offered, "entry point 'x' (y)")])
    with pytest.raises(UsageError, match=r"entry point 'x' \(y\): each of its SUITES"):
        registry.suites()


@pytest.mark.parametrize("offered", [Case, Event, Training, None])
def test_what_is_no_line_of_its_own_is_refused(monkeypatch, offered):
    monkeypatch.setattr(events, "offered", lambda name: [(offered, "entry point 'x' (y)")])
    with pytest.raises(UsageError, match=r"entry point 'x' \(y\): each of its EVENTS"):
        events.reader.__wrapped__()


@pytest.mark.parametrize(("options", "looks", "blocks"), [
    ({}, [3, 5, 8, 12], (6, 12)), ({"suite": "why"}, [4, 6], (4, 6)), ({"blocks": 7}, 1, (7, 7)),
    ({"selfcheck": True}, 1, (6, 8)), ({"arms": "pytorch"}, 1, (6, 8))])
def test_looks_are_declared_where_an_early_end_is_possible(options, looks, blocks):
    plan = make_plans(Asked(BenchConfig(**options), "cpu"))[0]
    said = plan.part.declared(plan)
    assert (said["looks"], plan.min_blocks, plan.max_blocks) == (looks, *blocks)
    assert said["spent_at_looks"] == pytest.approx(plan.looks.levels()) and sum(said["spent_at_looks"]) <= 0.05 + 1e-12
    assert ("looks at so many blocks" in describe(plan, preset("tiny"))) == (looks != 1)


def test_a_run_that_goes_on_keeps_the_looks_that_it_declared():
    for looks, blocks in ((1, 8), ([3, 5, 8, 12], 12), ([4, 6], 6)):
        recorded = {"comparisons": [], "looks": looks}
        plan = make_plans(Asked(BenchConfig(), "cpu", recorded=recorded))[0]
        assert plan.max_blocks == blocks
        assert make_plans(Asked(BenchConfig(suite="all"), "cpu", recorded={
            "comparisons": [], "by_part": {"training": {"looks": looks}}}))[0].max_blocks == blocks
