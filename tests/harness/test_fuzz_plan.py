"""Any accepted configuration gives a plan in which every arm has its turn and every comparison is as promised."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.options import MIN_BLOCKS, MOST_BLOCKS, BenchConfig, checked, experiment, parse, read_config
from harness.part import Asked
from harness.plan import SLOTS, describe, make_plans, turn_order
from harness.record.events import RunStarted
from harness.suites.training import Training
from impls.errors import UsageError

quick = settings(deadline=None, max_examples=60)
ARMS = ("pytorch", "pytorch:channels_last", "pytorch:bf16", "jittor", "jittor:onednn")
CONFIGS = st.builds(
    BenchConfig, suite=st.sampled_from(["train-speed", "sample-speed", "parity"]),
    arms=st.lists(st.sampled_from(ARMS), min_size=1, max_size=9).map(",".join),
    preset=st.sampled_from(["auto", "tiny"]), batch_size=st.none() | st.integers(1, 4096),
    blocks=st.none() | st.integers(MIN_BLOCKS, 40),
    pairs=st.none() | st.integers(2, 200), epochs=st.none() | st.integers(0, 9), seed=st.integers(0, 2**63 - 1),
    steps=st.none() | st.sampled_from(["1", "7", "50"]), selfcheck=st.booleans(),
    schedule=st.sampled_from(["resident", "sequential"]), time_limit=st.none() | st.floats(0.1, 1e5))


def planned(config):
    """The plan, or None where the configuration is refused in one line."""
    try:
        return make_plans(Asked(checked(config), "cpu"))[0]
    except UsageError as error:
        assert "\n" not in str(error)
        return None


@quick
@given(CONFIGS)
def test_every_block_has_every_arm_in_a_balanced_order(config):
    plan = planned(config)
    if plan is None:
        return
    assert plan.slots == SLOTS[: len(plan.arms)] and plan.part.blocks[0] <= plan.min_blocks <= plan.max_blocks
    cycle = 2 * len(plan.slots)
    for number in range(plan.max_blocks + plan.extra_blocks):
        order = plan.block(number).order_seed
        turns = [turn_order(plan.slots, order, pair) for pair in range(cycle)]
        assert all(sorted(turn) == sorted(plan.slots) for turn in turns)
        for position in range(len(plan.slots)):
            assert set(Counter(turn[position] for turn in turns).values()) == {2}, "everyone as often in every place"
    seeds = [plan.block(number).order_seed for number in range(plan.max_blocks)]
    assert len(set(seeds)) == len(seeds)


@quick
@given(CONFIGS)
def test_comparisons_are_within_a_number_format_then_every_arm_against_itself(config):
    plan = planned(config)
    if plan is None:
        return
    named = config.arms.split(",")
    fair = [c for c in plan.comparisons if not c.selfcheck]
    own = [c for c in plan.comparisons if c.selfcheck]
    formats = {slot: arm.precision for slot, arm in plan.arms[: len(named)]}
    shared = {name for name, times in Counter(formats.values()).items() if times > 1}
    assert all(c.a < c.b for c in fair) and len(set(fair)) == len(fair)
    assert {slot for c in fair for slot in (c.a, c.b)} == (set(formats) if len(named) > 1 else set())
    for c in fair:
        alone = {formats[c.a], formats[c.b]} - shared
        assert formats[c.a] == formats[c.b] or alone, "arms that have a partner are judged with that"
    if len(set(formats.values())) == 1:
        assert [(c.a, c.b) for c in fair] == [("A", slot) for slot in SLOTS[1 : len(named)]]
    assert len(own) == (len(named) if config.selfcheck and plan.timed else 0)
    assert all(plan.arm(c.a) == plan.arm(c.b) and c.a != c.b for c in own)
    if isinstance(plan.part, Training):
        assert bool(plan.part.parity) == (len(named) > 1)
    recipe = experiment(config, {}, "cpu")
    assert describe(plan, recipe).count("compare ") == len(plan.comparisons)
    json.dumps(plan.part.declared(plan), allow_nan=False)


@quick
@given(CONFIGS)
def test_an_accepted_configuration_is_the_same_after_its_way_through_a_file_and_through_the_journal(config):
    try:
        checked(config)
    except UsageError:
        return
    data = config.model_dump(mode="json", exclude={"config", "resume", "allow_env_change", "dry_run", "doctor"})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        path.write_text(json.dumps({key.replace("_", "-"): value for key, value in data.items()}))
        assert read_config(path) == (config, {})
        assert parse(["--config", str(path)])[0].model_dump(exclude={"config"}) == config.model_dump(exclude={"config"})
    started = RunStarted(run_id="r", suite=config.suite, started_utc="", command=[], arms=[], experiment={},
                         bench=config.model_dump(mode="json"), config_sha256="", declared={})
    again = RunStarted.model_validate_json(started.model_dump_json())
    assert BenchConfig.model_validate(again.bench) == config


@quick
@given(st.dictionaries(st.sampled_from(list(BenchConfig.model_fields)),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
                       | st.lists(st.integers(), max_size=2), max_size=4))
def test_a_file_of_any_values_is_accepted_or_refused_in_one_line(data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        path.write_text(json.dumps(data))
        try:
            config, _ = read_config(path)
        except UsageError as error:
            assert str(path) in str(error)
        else:
            assert config.blocks is None or MIN_BLOCKS <= config.blocks <= MOST_BLOCKS
