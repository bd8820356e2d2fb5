"""What surrounds the numbers, as tables: differences between arms, machine, data, telemetry, blocks, failures."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.record.events import BlockState, Case, DatasetRecorded, EnvironmentRecorded, Epoch, MonitorState
from harness.record.run import Machine, machines
from reports.chapters.trust import head
from reports.page.blocks import Table
from reports.text import DASH, MINUS, Value, count, duration, missing, number, plural
from reports.view.run import ArmView, RunView, facts_of
from reports.view.timeline import Trough, troughs
from reports.view.words import SAMPLING

MOST_ROWS = 6

# Name, network calls, seconds of PyTorch, seconds of Jittor: from the same source as the rows below.
REFERENCE_SAMPLING = (
    ("sampling 128 images, 50 DDIM steps", 50, "5.48", "4.64"),
    ("sampling 128 images, 250 DDIM steps", 250, "27.86", "27.55"),
    ("sampling 128 images, 1000 DDIM steps", 1000, "111.81", "107.32"),
    ("sampling 128 images, DDPM", 1000, "111.75", "101.85"),
)
# Published by the seed comparison (one RTX 3090, CUDA 11.8, jittor 1.3.9, torch 2.5.1, batch 128): the only figures in
# a report that are not read from its journal, and labelled as such.
REFERENCE_ROWS = (
    ("training epoch, 391 steps", "139.26 s", "142.43 s"),
    (
        "FID of 1000 images, 50 / 250 / 1000 DDIM / DDPM",
        "76.43 / 69.97 / 67.66 / 70.17",
        "80.18 / 72.93 / 71.81 / 74.27",
    ),
    ("final training loss", "about 0.030", "about 0.030"),
)


def differences(view: RunView) -> Table:
    """Framework, operators and flags, one column per arm; rows that differ are marked."""
    facts: dict[str, dict[str, str]] = {}
    for arm in view.arms:
        for key in ("framework", "version", "device", "device_name", "device_uuid", "dtype", "tf32", "threads"):
            told = dict.fromkeys(text for value in arm.infos(key) if (text := plain(value)))
            facts.setdefault(key.replace("_", " "), {})[arm.slot] = " and ".join(told)
        for group in ("operators", "flags"):
            for key, value in facts_of(arm, group).items():
                facts.setdefault(f"{group[:-1]}: {key}", {})[arm.slot] = plain(value)
    started = [arm for arm in view.arms if arm.all_workers]
    rows = []
    for name, values in facts.items():
        named = {values[arm.slot] for arm in started if values.get(arm.slot)}
        differs = len(named) > 1
        cells = [Value(values[arm.slot]) if values.get(arm.slot) else missing_fact(arm) for arm in view.arms]
        rows.append((Value(name, "differs" if differs else None, "warn" if differs else ""), *cells))
    head_row = (Value("what"), *(Value(arm.label, slot=arm.slot) for arm in view.arms))
    return Table("What each arm proved to run", head_row, tuple(rows))


def missing_fact(arm: ArmView) -> Value:
    """Why a fact of an arm is not known."""
    return missing("not named by this backend" if arm.all_workers else "no worker started")


def plain(value: object) -> str:
    """A fact as text; "" where it is None."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", MINUS)
    return "" if value is None else str(value)


def environment(view: RunView) -> Table:
    """All recorded facts of the machine; starred ones must match before two runs are compared.

    A run that went on in another environment has a column for each; starred facts that differ are marked.
    """
    found = machines(view.run.events)
    recorded = [one.recorded for one in found]
    rows: list[tuple[Value, ...]] = []
    for name in dict.fromkeys(name for one in recorded for name in one.facts):
        starred = any(name in one.starred for one in recorded)
        differs = starred and len({one.facts.get(name) for one in recorded}) > 1
        label = Value(name.replace("_", " ") + " *" * starred, "differs" if differs else None, "warn" * differs)
        rows.append((label, *(machine_fact(name, one) for one in recorded)))
    if not rows:
        rows = [(Value("machine"), missing("the journal holds no environment"))]
    columns = [Value(f"value, {measured_in(one)}") for one in found] if len(found) > 1 else [Value("value")]
    return Table("The machine (* must match between compared runs)", (Value("fact"), *columns), tuple(rows))


def machine_fact(name: str, recorded: EnvironmentRecorded) -> Value:
    """One fact of one environment, or why it is not known."""
    value = recorded.facts.get(name)
    reason = recorded.reasons.get(name, "no reason recorded" if name in recorded.facts else "not recorded there")
    return missing(reason) if value is None else Value(fact(name, value))


def measured_in(machine: Machine) -> str:
    """The blocks of one environment."""
    return f"block {', '.join(map(str, machine.blocks))}" if machine.blocks else "no block"


def fact(name: str, value: str | int | float | bool) -> str:
    """A fact with a readable size where its name says that it counts bytes."""
    if name.endswith("_bytes") and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{number(value / 2**30)} GiB"
    return plain(value)


def data_and_settings(view: RunView) -> Table:
    """Data set, preset, what was declared before the run."""
    rows: list[tuple[Value, Value]] = []
    data = view.run.last(DatasetRecorded)
    if data:
        shape = "\N{MULTIPLICATION SIGN}".join(str(n) for n in data.shape)
        rows += [
            (Value("data set"), Value(data.name, data.why)),
            (Value("images"), Value(f"{count(data.images)} of {shape}", f"SHA-256 {data.sha256}")),
        ]
    else:
        why = "sampling reads no data set" if view.unit is SAMPLING else "not recorded"
        rows.append((Value("data set"), missing(why)))
    started = view.run.started
    for name, value in flat(started.declared if started else {}):
        rows.append(
            (
                Value(f"declared: {name.replace('_', ' ')}"),
                Value(plain(value)) if value is not None else missing("not set"),
            )
        )
    rows.append((Value("configuration hash"), Value(started.config_sha256) if started else missing("not recorded")))
    return Table("Data and what was declared before measuring", head("what", "value"), tuple(rows))


def flat(data: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (name, value) with names such as "blocks, least"; lists as one line of text."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            found += flat(value, f"{name}, ")
        elif isinstance(value, list):
            items = [
                " ".join(f"{k} {plain(v)}" for k, v in one.items()) if isinstance(one, dict) else plain(one)
                for one in value
            ]
            found.append((name, "; ".join(items) or None))
        else:
            found.append((name, value))
    return found


def low_load(view: RunView) -> Table | None:
    """Stretches of low host load by what was going on in them, those that lost most first."""
    groups: dict[str, list[Trough]] = {}
    for trough in troughs(view):
        # Shares differ from stretch to stretch; who did what is the same.
        doing = "; ".join(words.rsplit(", ", 1)[0] for words in trough.doing)
        groups.setdefault(doing, []).append(trough)
    if not groups:
        return None
    rows = []
    for doing, found in list(groups.items())[:MOST_ROWS]:
        spans_ns = [trough.end_ns - trough.start_ns for trough in found]
        load = sum(t.load_percent * ns for t, ns in zip(found, spans_ns, strict=True)) / sum(spans_ns)
        worst = found[0]
        begin, end = ((stamp - view.t0_ns) / 1e9 for stamp in (worst.start_ns, worst.end_ns))
        words = Value(doing) if doing else Value("nothing marked", "between processes, or work without a mark")
        rows.append(
            (
                words,
                Value(plural(len(found), "stretch", "stretches")),
                Value(duration(sum(spans_ns))),
                Value(f"{number(load, 2)} %"),
                Value(f"{begin:.1f}{DASH}{end:.1f} s"),
            )
        )
    names = ("phases of the arms", "how often", "time in all", "host CPU (100 % is one core)", "the worst")
    return Table("Where the host's load was low, and what was going on", head(*names), tuple(rows))


def telemetry_sources(view: RunView) -> Table | None:
    """Which sources of telemetry worked, with the last recorded reason where something is missing."""
    states = {state.source: state for state in view.run.of(MonitorState)}
    if not states:
        return None
    samples = view.samples
    rows = []
    for source, state in sorted(states.items()):
        # A worker's process is gone at the end of its block, which takes nothing from what was read before.
        if source in samples:
            cell = Value(
                "recorded", f"{plural(len(samples[source]), 'sample')}{f'; {state.reason}' if state.reason else ''}"
            )
        else:
            cell = missing(state.reason or "no sample was recorded")
        facts = [f"{key.replace('_', ' ')} {plain(value)}" for key, value in state.static.items() if value is not None]
        rows.append((Value(source), cell, Value(", ".join(facts) or DASH)))
    return Table("Sources of telemetry", head("source", "state", "about it"), tuple(rows))


def blocks(view: RunView) -> Table | None:
    """State of every block."""
    states = view.run.of(BlockState)
    if not states:
        return None
    rows = tuple(
        (
            Value(str(state.block)),
            Value("disturbed", mark="warn") if state.dirty else Value("clean", mark="good"),
            Value("; ".join(state.reasons) or DASH),
            Value(f"block {state.repeats}" if state.repeats is not None else DASH),
            Value(str(state.order_seed)),
        )
        for state in states
    )
    return Table("Blocks", head("block", "state", "reasons", "repeats", "order seed"), rows)


def failures(view: RunView) -> Table | None:
    """Cases that were not measured; the newest status of each case counts."""
    newest = {case.case_id: case for case in view.run.of(Case)}
    bad = [case for case in newest.values() if case.status != "measured"]
    if not bad:
        return None
    rows = tuple(
        (
            Value(case.case_id),
            Value(case.status, mark="bad" if case.status == "failed" else "warn"),
            Value(case.reason or "no reason recorded"),
            Value(case.log) if case.log else Value(DASH),
        )
        for case in bad
    )
    return Table("Cases without a measurement", head("case", "status", "reason", "log"), rows)


def reference(view: RunView) -> Table:
    """The published figures of the comparison that this project grew from; of sampling alone where a run samples."""
    sampling = [
        (Value(f"published: {name}"), published(pytorch, calls), published(jittor, calls))
        for name, calls, pytorch, jittor in REFERENCE_SAMPLING
    ]
    others = [(Value(f"published: {name}"), Value(pytorch), Value(jittor)) for name, pytorch, jittor in REFERENCE_ROWS]
    rows = sampling if view.unit is SAMPLING else [*others[:1], *sampling, *others[1:]]
    return Table(
        "Published elsewhere, on other hardware: one RTX 3090, CUDA 11.8, PyTorch 2.5.1, Jittor 1.3.9, batch 128",
        head("figure", "PyTorch 2.5.1", "Jittor 1.3.9"),
        tuple(rows),
    )


def published(seconds: str, calls: int) -> Value:
    """A published time, with what it means per network call."""
    return Value(f"{seconds} s", f"{duration(float(seconds) * 1e9 / calls)} per network call")


def epochs(view: RunView) -> Table | None:
    """Whole epochs: seconds and images per second."""
    groups: dict[tuple[str, str], list[Epoch]] = {}
    for arm in view.arms:
        for epoch in arm.epochs:
            groups.setdefault((arm.slot, f"{epoch.loader} data"), []).append(epoch)
    if not groups:
        return None
    rows = []
    for (slot, loader), found in groups.items():
        times = [epoch.end_ns - epoch.start_ns for epoch in found]
        rate = sum(epoch.images for epoch in found) / sum(times) * 1e9 if sum(times) else None
        images = sorted({epoch.images for epoch in found})
        workers = sorted({epoch.num_workers for epoch in found})
        detail = f"{' / '.join(map(str, workers))} loader workers" if "native" in loader else None
        rows.append(
            (
                Value(view.label(slot), slot=slot),
                Value(loader, detail),
                Value(
                    duration(float(np.median(times))),
                    f"median of {plural(len(times), 'epoch')} of {' / '.join(count(n) for n in images)} images",
                ),
                Value(number(rate)),
            )
        )
    return Table("Whole epochs", head("arm", "data path", "epoch", "images/s"), tuple(rows))
