"""Arbitrary events survive writing and reading, and arbitrary bytes are damage, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.record.events import EnvironmentRecorded, Finding, Losses, RunStarted, Sample, Verdict, WarmUp, Window
from harness.record.lines import decode, encode
from harness.record.run import RecordedRun
from harness.record.summary import summary
from impls.errors import UsageError

HERE = Path("results/run")
quick = settings(deadline=None, max_examples=80)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
whole = st.integers(-(2**63), 2**63 - 1)
number = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
slot = st.sampled_from("ABCDEFGH")
plain = st.recursive(st.none() | st.booleans() | whole | finite | text,
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8)
settings_like = st.dictionaries(text, plain, max_size=3)
stamp = st.integers(0, 2**62)

EVENTS = st.one_of(
    st.builds(Finding, t_ns=stamp, severity=st.sampled_from(["info", "error"]), code=text, message=text,
              advice=st.none() | text, arm=st.none() | slot, block=st.none() | whole),
    st.builds(Window, t_ns=stamp, kind=st.sampled_from(["stepwise", "free", "sample"]), arm=slot, block=whole,
              pair=whole, position=whole, start_ns=whole, end_ns=whole, steps=whole,
              step_ns=st.lists(whole, max_size=4), others_cpu_ns=st.dictionaries(slot, whole, max_size=2)),
    st.builds(WarmUp, t_ns=stamp, arm=slot, block=whole, start_ns=st.lists(whole, max_size=3),
              step_ns=st.lists(whole, max_size=3), classification=st.sampled_from(["flat", "warmup"]),
              steady_from=st.none() | whole, capped=st.booleans()),
    st.builds(Losses, t_ns=stamp, arm=slot, block=whole, randomness=st.just("native"), first_step=whole,
              losses=st.lists(number, max_size=5)),
    st.builds(Sample, t_ns=stamp, source=text, values=st.dictionaries(text, st.none() | whole | finite, max_size=3)),
    st.builds(EnvironmentRecorded, t_ns=stamp,
              facts=st.dictionaries(text, st.none() | st.booleans() | whole | finite | text, max_size=4)),
    st.builds(Verdict, t_ns=stamp, metric=text, arm_a=slot, arm_b=slot, ratio=st.none() | number,
              ci_low=st.none() | number, ci_high=st.none() | number, blocks=whole,
              word=st.sampled_from(["equivalent", "inconclusive"]), block_log_ratios=st.lists(number, max_size=3)),
    st.builds(RunStarted, t_ns=stamp, schema_version=st.just(1), run_id=text, suite=text, started_utc=text,
              command=st.lists(text, max_size=3), arms=st.just([]), bench=settings_like, experiment=settings_like,
              config_sha256=text, declared=settings_like),
)


def said(events):
    return [event.model_dump_json() for event in events]


@quick
@given(st.lists(EVENTS, max_size=6))
def test_what_is_written_is_read(events):
    lines = [encode(event, index) for index, event in enumerate(events)]
    assert all(line.count(b"\n") == 1 for line in lines)
    found = decode(b"".join(lines), HERE)
    assert said(found.events) == said(events)
    assert found.damage == [] and found.next_number == len(events)
    json.loads(summary(RecordedRun(HERE, found.events)).text(), parse_constant=pytest.fail)


@quick
@given(st.lists(EVENTS, max_size=4))
def test_lines_without_checksums_are_no_more_than_one_damage(events):
    found = decode(b"".join(event.model_dump_json().encode() + b"\n" for event in events), HERE)
    assert found.events == () and len(found.damage) == min(len(events), 1) and found.next_number == 0


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: t.encode(errors="surrogatepass"))
       | plain.map(lambda data: json.dumps(data).encode()))
def test_arbitrary_bytes_are_never_more_than_damage(raw):
    try:
        found = decode(raw, HERE)
    except UsageError as error:
        assert "schema" in str(error)
    else:
        assert found.events == () and all("\n" not in line for line in found.damage)


@quick
@given(st.lists(EVENTS, min_size=1, max_size=5), st.data())
def test_bytes_in_between_hide_no_whole_line(events, data):
    lines = [encode(event, index) for index, event in enumerate(events)]
    place = data.draw(st.integers(0, len(lines)))
    rubbish = data.draw(st.binary(min_size=1, max_size=60))
    found = decode(b"".join([*lines[:place], rubbish + b"\n", *lines[place:]]), HERE)
    assert said(found.events) == said(events)
    assert bool(found.damage) == bool(rubbish.strip())


@quick
@given(st.lists(EVENTS, min_size=2, max_size=6), st.randoms(), st.data())
def test_any_order_with_any_copies_reads_as_it_was_written(events, rng, data):
    lines = [encode(event, index) for index, event in enumerate(events)]
    mixed = lines + data.draw(st.lists(st.sampled_from(lines), max_size=4))
    rng.shuffle(mixed)
    found = decode(b"".join(mixed), HERE)
    assert said(found.events) == said(events)
    assert bool(found.damage) == (mixed != lines)
