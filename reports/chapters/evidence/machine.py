"""Where and with what a run measured: differences between arms, machine, data, settings."""

from __future__ import annotations

from typing import Any

from harness.record.events import DatasetRecorded, EnvironmentRecorded, WorkerStarted
from harness.record.run import Machine, machines
from messages import count, marked, shown, tell, words
from reports.chapters.answer.key_figures import arm_head
from reports.page.blocks import Table, head
from reports.text import MINUS, Value, commas, missing, number, semicolons
from reports.view.run import ArmView, RunView, facts_of, leaves

# What a worker proves of itself, by its key.
FACTS = {
    "framework": marked("framework"), "version": marked("version"), "device": marked("device"),
    "device_name": marked("device name"), "device_uuid": marked("device uuid"), "dtype": marked("dtype"),
    "tf32": marked("tf32"), "threads": marked("threads"),
}  # fmt: skip
GROUPS = {"operators": marked("operator: {name}"), "flags": marked("flag: {name}")}


def differences(view: RunView) -> Table | None:
    """Framework, operators and flags, one column per arm; rows that differ are marked. None where nothing started."""
    started = [arm for arm in view.arms if arm.of(WorkerStarted)]
    if not started:
        return None
    facts: dict[str, dict[str, str]] = {}
    for arm in view.arms:
        for key, name in FACTS.items():
            told = dict.fromkeys(text for value in arm.infos(key) if (text := plain(value)))
            facts.setdefault(tell(name), {})[arm.slot] = tell(" and ").join(told)
        for group, name in GROUPS.items():
            for key, value in facts_of(arm, group).items():
                facts.setdefault(tell(name, name=key), {})[arm.slot] = plain(value)
    rows = []
    for name, values in facts.items():
        named = {values[arm.slot] for arm in started if values.get(arm.slot)}
        differs = len(named) > 1
        cells = [Value(values[arm.slot]) if values.get(arm.slot) else missing_fact(arm) for arm in view.arms]
        rows.append((Value(name, tell("differs") if differs else None, "warn" if differs else ""), *cells))
    return Table(tell("What each arm proved to run"), arm_head(view, marked("what")), tuple(rows))


def missing_fact(arm: ArmView) -> Value:
    """Why a fact of an arm is not known."""
    return missing(tell("not named by this backend") if arm.of(WorkerStarted) else tell("no worker started"))


def plain(value: object) -> str:
    """A fact as text; "" where it is None."""
    if isinstance(value, bool):
        return tell("on") if value else tell("off")
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
        label = Value(name.replace("_", " ") + " *" * starred, tell("differs") if differs else None, "warn" * differs)
        rows.append((label, *(machine_fact(name, one) for one in recorded)))
    if not rows:
        rows = [(Value(tell("machine")), missing(tell("the journal holds no environment")))]
    columns = ([Value(tell("value, {blocks}", blocks=measured_in(one))) for one in found] if len(found) > 1
               else [Value(tell("value"))])  # fmt: skip
    return Table(tell("The machine (* must match between compared runs)"), (Value(tell("fact")), *columns), tuple(rows))


def machine_fact(name: str, recorded: EnvironmentRecorded) -> Value:
    """One fact of one environment, or why it is not known."""
    value = recorded.facts.get(name)
    if value is not None:
        return Value(fact(name, value))
    if name in recorded.reasons:
        return missing(shown(recorded.reasons[name]))
    return missing(tell("no reason recorded") if name in recorded.facts else tell("not recorded there"))


def measured_in(machine: Machine) -> str:
    """The blocks of one environment."""
    if not machine.blocks:
        return tell("no block")
    return tell("block {blocks}", blocks=commas(map(str, machine.blocks)))


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
            (Value(tell("data set")), Value(data.name, shown(data.why) if data.why else data.why)),
            (Value(tell("images")), Value(tell("{images} of {shape}", images=count(data.images), shape=shape),
                                          f"SHA-256 {data.sha256}")),
        ]  # fmt: skip
    elif view.pair:
        rows.append((Value(tell("models and batches")), Value(view.pair.name, f"SHA-256 {view.pair.sha256}")))
        rows += [(Value(tell("file {name}", name=name)), Value(f"SHA-256 {digest}"))
                 for name, digest in view.pair.files.items()]  # fmt: skip
    else:
        rows.append((Value(tell("data set")), missing(tell(view.unit.no_data))))
    started = view.run.started
    for keys, value in leaves(started.declared if started else {}):
        told = entries(value)
        name = ", ".join(keys).replace("_", " ")
        # One word is a setting or a name.
        text = "" if told is None else plain(told)
        cell = Value(shown(text) if " " in text else text) if told is not None else missing(tell("not set"))
        rows.append((Value(tell("declared: {name}", name=name)), cell))
    configuration = Value(started.config_sha256) if started else missing(tell("not recorded"))
    rows.append((Value(tell("configuration hash")), configuration))
    return Table(tell("Data and what was declared before measuring"), head(*words("what", "value")), tuple(rows))


def entries(value: Any) -> Any:
    """A list of settings as one line of text, None without any; other values as they are."""
    if not isinstance(value, list):
        return value
    items = [
        " ".join(f"{k} {plain(v)}" for k, v in one.items()) if isinstance(one, dict) else plain(one) for one in value
    ]
    return semicolons(items) or None
