"""What the kernel took away: read from scripted files, told from differences, and a reason to repeat a block."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.machine.counters import DIRTY, MIB, Counters, read_counters, taken
from harness.machine.disturbance import Disturbance, disturbed_blocks
from harness.machine.files import SystemFiles
from harness.record.events import BlockState

BEFORE = Counters(monotonic_s=100, raw_s=100, boot_s=150, wall_s=1e9, processors=2, stolen_s=5, throttled_s=7,
                  swapped_in_bytes=10 * MIB, stalled_s=3, oom_kills=2)
# A hundred quiet seconds later.
AFTER = replace(BEFORE, monotonic_s=200, raw_s=200, boot_s=250, wall_s=1e9 + 100)


def files(root: Path, **texts: str) -> SystemFiles:
    for path, text in texts.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return SystemFiles(root)


def test_quiet_seconds_take_nothing():
    assert taken(BEFORE, AFTER) == []
    assert taken(BEFORE, BEFORE) == []


@pytest.mark.parametrize(("least", "most", "code", "word"), [
    ({"stolen_s": 5 + 9.9}, {"stolen_s": 5 + 30}, "cpu-stolen", "15%"),
    ({"throttled_s": 7 + 1.9}, {"throttled_s": 7 + 4}, "cpu-throttled", "4.00 s"),
    ({"swapped_in_bytes": 14 * MIB}, {"swapped_in_bytes": 30 * MIB}, "swapped-in", "20 MiB"),
    ({"stalled_s": 3.9}, {"stalled_s": 5.5}, "memory-pressure", "2.50 s"),
    ({"oom_kills": 2}, {"oom_kills": 3}, "oom-kill", "1 process "),
    ({"boot_s": 250.05, "wall_s": 1e9 + 100.05}, {"boot_s": 310, "wall_s": 1e9 + 160}, "suspended", "60.0 s"),
    ({"wall_s": 1e9 + 100.9}, {"wall_s": 1e9 + 103}, "clock-stepped", "forward by 3.0 s"),
    ({"wall_s": 1e9 + 99.1}, {"wall_s": 1e9 - 3500}, "clock-stepped", "back by 3600.0 s"),
    ({"raw_s": 199.95}, {"raw_s": 199.0}, "clock-drift", "1.01% too fast"),
    ({"raw_s": 200.05}, {"raw_s": 202.0}, "clock-drift", "1.96% too slow"),
])
def test_each_loss_has_its_finding_and_its_limit(least, most, code, word):
    assert taken(BEFORE, replace(AFTER, **least)) == []
    (finding,) = taken(BEFORE, replace(AFTER, **most))
    assert finding.code == code and word in finding.message and finding.advice


@pytest.mark.parametrize("name", [field.name for field in fields(Counters) if field.default is None])
def test_what_cannot_be_read_takes_nothing(name):
    plenty = replace(AFTER, **{name: 10 * getattr(BEFORE, name) + 100 * MIB})
    assert taken(BEFORE, plenty)
    assert taken(replace(BEFORE, **{name: None}), plenty) == []
    assert taken(BEFORE, replace(plenty, **{name: None})) == []
    fallen = replace(AFTER, **{name: getattr(BEFORE, name) // 2})
    assert taken(BEFORE, fallen) == [], "a counter that fell belongs to another group"


def test_a_short_span_says_nothing_about_drift():
    assert taken(BEFORE, replace(BEFORE, monotonic_s=105, raw_s=104, boot_s=155, wall_s=1e9 + 5)) == []


def test_the_counters_of_scripted_files(tmp_path):
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    system = files(tmp_path, **{
        "proc/stat": f"cpu  1 1 1 1 1 1 1 {9 * tick} 0 0\ncpu0 1 1 1 1 1 1 1 {3 * tick} 0 0\n"
                     f"cpu1 1 1 1 1 1 1 1 {6 * tick} 0 0\nintr 5\n",
        "proc/vmstat": "pswpin 12\npswpout 99\noom_kill 4\n",
        "proc/pressure/memory": "some avg10=0 avg60=0 avg300=0 total=99\nfull avg10=0 avg60=0 avg300=0 total=2500000\n",
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000\n",
        "sys/fs/cgroup/a/cpu.stat": "usage_usec 5\nnr_throttled 9\nthrottled_usec 4000000\n"})
    assert system.stolen_s([1]) == 6 and system.stolen_s([0, 1]) == 9
    assert (system.throttled_s(), system.memory_stalled_s()) == (4.0, 2.5)
    counters = read_counters(system)
    assert (counters.swapped_in_bytes, counters.oom_kills) == (12 * page, 4)
    assert counters.boot_s >= counters.monotonic_s - 1 > 0


def test_cgroup_1_counts_nanoseconds(tmp_path):
    system = files(tmp_path, **{"proc/self/cgroup": "2:cpu,cpuacct:/x\n",
                                "sys/fs/cgroup/cpu,cpuacct/x/cpu.stat": "nr_throttled 3\nthrottled_time 2500000000\n"})
    assert system.throttled_s() == 2.5


def test_an_empty_system_tells_nothing(tmp_path):
    counters = read_counters(SystemFiles(tmp_path))
    assert [getattr(counters, field.name) for field in fields(Counters) if field.default is None] == [None] * 5


def test_this_machine_can_be_read():
    before = read_counters()
    assert taken(before, replace(read_counters(), stolen_s=before.stolen_s, throttled_s=before.throttled_s,
                                 stalled_s=before.stalled_s)) == []


def disturbance(readings: list[Counters]) -> Disturbance:
    return Disturbance({"A": "a", "B": "b"}, lambda pid: 0, lambda: None, counters=lambda: readings.pop(0))


@pytest.mark.parametrize("code", sorted(DIRTY))
def test_what_was_taken_during_the_windows_makes_a_block_dirty(code):
    lost = {"cpu-stolen": {"stolen_s": 90}, "cpu-throttled": {"throttled_s": 90}, "memory-pressure": {"stalled_s": 90},
            "swapped-in": {"swapped_in_bytes": 1e9}, "suspended": {"boot_s": 300, "wall_s": 1e9 + 150}}[code]
    after = replace(AFTER, **lost)
    work = disturbance([BEFORE, after])
    work.begin([1])
    work.end()
    (reason,) = work.reasons()
    assert reason == taken(BEFORE, after)[0].message


def test_what_was_taken_before_the_windows_and_what_only_concerns_the_run_does_not():
    late = replace(AFTER, stolen_s=90)
    work = disturbance([late, replace(late, monotonic_s=300, raw_s=300, boot_s=350, wall_s=5, oom_kills=9)])
    work.begin([1])
    work.end()
    assert work.reasons() == []


def test_disturbed_blocks_are_one_finding():
    states = [BlockState(block=0, order_seed=0, dirty=False), BlockState(block=1, order_seed=0, dirty=True,
              reasons=["heat", "a stranger"]), BlockState(block=2, order_seed=0, dirty=False, repeats=1)]
    (finding,) = disturbed_blocks(states)
    assert finding.message == "1 of 3 blocks were disturbed (1 of all are repeats), such as block 1: heat; a stranger"
    assert disturbed_blocks([states[0], states[2]]) == []
