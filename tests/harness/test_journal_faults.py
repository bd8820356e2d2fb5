"""A journal that was cut, flipped or mixed up: read as far as it is intact, and never a wrong number.

Every byte gets one seeded fault; with DDPM_BENCH_FUZZ=1 every single bit is flipped.
"""

from __future__ import annotations

import json
import os
import random
import zlib

import pytest

from harness.record.events import Finding, RunEnded
from harness.record.lines import decode, encode
from harness.record.run import read_run
from harness.record.summary import summary
from impls.errors import UsageError

THOROUGH = os.environ.get("DDPM_BENCH_FUZZ") == "1"
TRAINING = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": None}
SAMPLING = {"suite": "sample-speed", "arms": "scripted,scripted:slow", "blocks": 6, "pairs": 2, "steps": "2,4"}


@pytest.fixture(params=["training", "sampling"])
def recorded(request, lab, monkeypatch):
    """A whole run with each kind of line that its suite writes."""
    monkeypatch.setattr("harness.suites.sampling.part.SWEEP", {"cpu": (1,), "cuda": (1,)})
    monkeypatch.setattr("harness.suites.sampling.batches.CELL_S", {"cpu": 0.1})
    return lab.run(**(TRAINING if request.param == "training" else SAMPLING))[1]


def one_of_each(run):
    """A short journal, one line of every kind and the end, and what its lines say."""
    kinds = {type(event): event for event in run.events}
    events = sorted(kinds.values(), key=lambda event: (type(event) is RunEnded, run.events.index(event)))
    lines = [encode(shortened(event), number) for number, event in enumerate(events)]
    return b"".join(lines), [shortened(event).model_dump_json() for event in events]


def shortened(event):
    long = {name: value[:3] for name, value in event if isinstance(value, list) and len(value) > 3}
    return event.model_copy(update=long)


def said(lines):
    return [event.model_dump_json() for event in lines.events]


def in_order(found, events):
    """Whether `found` are events as they were written, each once, in their order."""
    rest = iter(events)
    return all(one in rest for one in found)


def test_cut_anywhere_everything_before_is_read(recorded, tmp_path):
    journal, events = one_of_each(recorded)
    ends = [index + 1 for index, byte in enumerate(journal) if byte == 10]
    for cut in range(len(journal) + 1):
        found = decode(journal[:cut], tmp_path)
        whole = sum(end - 1 <= cut for end in ends)
        assert said(found) == events[:whole]
        torn = cut not in {0, *ends, *(end - 1 for end in ends)}
        assert len(found.damage) == torn and all("torn" in line for line in found.damage)


def test_no_flipped_byte_is_ever_read_as_another_number(recorded, tmp_path):
    journal, events = one_of_each(recorded)
    rng = random.Random(0)
    for place in range(len(journal)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128) if THOROUGH else (rng.randrange(1, 256),):
            flipped = bytearray(journal)
            flipped[place] ^= mask
            found = decode(bytes(flipped), tmp_path)
            assert in_order(said(found), events)
            assert len(events) - 2 <= len(found.events) < len(events), "one line is gone, or two that became one"
            assert found.damage


def test_a_whole_run_with_several_faults_is_summarised_without_a_wrong_number(recorded):
    path = recorded.path / "journal.jsonl"
    journal, rng = path.read_bytes(), random.Random(1)
    written = [event.model_dump_json() for event in decode(journal, path).events]
    for _ in range(300 if THOROUGH else 25):
        broken = bytearray(journal)
        for _ in range(rng.randrange(1, 6)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        run = read_run(recorded.path)
        assert in_order([event.model_dump_json() for event in run.events], written)
        json.loads(summary(run).text(), parse_constant=pytest.fail)


def test_every_line_stays_a_json_object_whose_checksum_others_can_verify(recorded):
    lines = (recorded.path / "journal.jsonl").read_bytes().splitlines()
    for number, line in enumerate(lines):
        data = json.loads(line)
        assert list(data)[-2:] == ["seq", "crc"] and data["seq"] == number
        assert zlib.crc32(line[: line.rindex(b',"crc"')]) == int(data["crc"], 16)


def test_lines_without_checksums_are_damage_and_a_journal_of_them_is_refused_at_once(tmp_path, recorded):
    plain = [event.model_dump_json().encode() + b"\n" for event in recorded.events[:5]]
    new = [encode(event, number) for number, event in enumerate(recorded.events[5:8])]
    found = decode(b"".join([plain[0], *new, plain[1]]), tmp_path)
    assert len(found.events) == 3 and found.next_number == 3
    assert found.damage == [f"line {place} cannot be read: it has no checksum" for place in (1, 5)]
    found = decode(b"".join(plain), tmp_path)
    assert not found.events and found.damage == ["none of its 5 lines has a checksum: a version of this program that "
                                                 "was never released wrote it, or it is no journal"]


@pytest.fixture
def six(tmp_path):
    """Six numbered lines as bytes, and their codes."""
    events = [Finding(severity="info", code=str(number), message="m", t_ns=5) for number in range(6)]
    return [encode(event, number) for number, event in enumerate(events)]


def codes(lines):
    return [event.code for event in lines.events]


def test_a_doubled_line_counts_once(six, tmp_path):
    found = decode(b"".join([*six, six[2]]), tmp_path)
    assert codes(found) == list("012345") and found.damage == ["line 7 is a copy of an earlier one: left out"]


def test_swapped_lines_are_put_back(six, tmp_path):
    found = decode(b"".join([six[0], six[2], six[1], *six[3:]]), tmp_path)
    assert codes(found) == list("012345") and found.damage == ["line 3 stands behind later ones: put back"]


@pytest.mark.parametrize(("gone", "text"), [({2}, "1 of 6 numbered lines are lost: 2"),
                                            ({0, 2, 3}, "3 of 6 numbered lines are lost: 0, 2 to 3")])
def test_a_loss_in_the_middle_is_noticed(six, tmp_path, gone, text):
    found = decode(b"".join(line for number, line in enumerate(six) if number not in gone), tmp_path)
    assert found.damage == [text] and len(found.events) == 6 - len(gone)


def test_an_absurd_number_costs_no_memory(six, tmp_path):
    far = encode(Finding(severity="info", code="far", message=""), 10**17)
    found = decode(six[0] + far, tmp_path)
    assert codes(found) == ["0", "far"] and "lost: 1 to 99999999999999999" in found.damage[0]


def test_two_different_lines_of_one_number_both_count(six, tmp_path):
    """As Ctrl-C leaves them when it comes between a line and the counting of it."""
    other = encode(Finding(severity="info", code="other", message=""), 5)
    found = decode(b"".join([*six, other]), tmp_path)
    assert codes(found) == [*"012345", "other"] and found.damage == []


NESTED = b'{"type":"run","bench":' + b"[" * 100_000
WINDOW = ('{"type":"window","t_ns":%s,"kind":"free","arm":"A","block":0,"pair":0,"position":0,"start_ns":0,"end_ns":1,'
          '"steps":1,"step_ns":[]}')


@pytest.mark.parametrize("garbage", [
    b"\x00" * 4096, b"\xff\xfe\xfa", b"[" * 100_000, NESTED, b"{}" * 5, b'"' + b"x" * 3_000_000 + b'"', b"1e999",
    b"-", b'{"type":"run","schema_version":1e400}', b'{"type":["run"]}', b'{"type":"finding","code":"\\ud800"}',
    b'{"schema_version":' + b"9" * 5000 + b"}", (WINDOW % ("9" * 19)).encode(), (WINDOW % ("9" * 4000)).encode(),
    (WINDOW % ('"' + "9" * 50 + '"')).encode(), b',"seq":1,"crc":"00000000"}', b'{"seq":1,"crc":"00000000"}'],
    ids=lambda garbage: f"{garbage[:12]!r}")
def test_garbage_is_damage_and_hides_nothing_else(six, tmp_path, garbage):
    for lines in ([garbage], [garbage, *six], [*six, garbage], [*six[:3], garbage, *six[3:]]):
        found = decode(b"\n".join(line.rstrip(b"\n") for line in lines), tmp_path)
        assert codes(found) == (list("012345") if len(lines) > 1 else [])
        assert len(found.damage) == 1 and len(found.damage[0]) < 300 and "\n" not in found.damage[0]


def test_a_newer_schema_is_refused_even_where_its_first_line_looks_like_ours(recorded, tmp_path):
    newer = recorded.started.model_copy(update={"schema_version": 2})
    for line in (encode(newer, 0), newer.model_dump_json().encode()):
        with pytest.raises(UsageError, match="schema 2"):
            decode(line, tmp_path)
