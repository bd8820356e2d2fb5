"""Where the time of a first run went: all of it, once, and nothing said of later runs."""

from __future__ import annotations

import pytest

from harness.record.events import Resumed, RunEnded, WarmUp, WorkerStarted
from harness.run import account

MS, S = 1_000_000, 1_000_000_000
RUN = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": 0}


def test_its_parts_add_up_to_the_run_and_the_report(lab):
    lab.script(lambda options, process, step: (5000 if step == 0 else 100) * MS)
    end, run = lab.run(**RUN)
    assert set(end.spent_s) == {account.CORE, account.GATE, account.BLOCKS}
    found = account.spent(run, report_s=7.0)
    assert sum(found.values()) == pytest.approx(end.wall_s + 7.0) and found["report"] == 7.0
    assert all(seconds >= -1e-9 for seconds in found.values()), found
    # Of the check and of each block the first step of both arms compiles for 4.9 s, by the script.
    assert found["kernels"] == pytest.approx(2 * (1 + 6) * 4.9, rel=0.05)
    warm = sum(sum(one.step_ns[1:]) for one in run.of(WarmUp)) / 1e9
    assert found["warm-up"] == pytest.approx(warm, rel=0.05) and found["windows"] >= 2 * 6 * 2 * 0.1


def test_it_is_told_of_a_run_that_compiled_alone(lab, monkeypatch):
    lab.script(lambda options, process, step: (5000 if step == 0 else 100) * MS)
    _, run = lab.run(**RUN)
    assert account.lines(run, 1.0, None) == []
    workers = [one.model_copy(update={"cache": "partial"}) for one in run.of(WorkerStarted)]
    of = type(run).of
    monkeypatch.setattr(type(run), "of", lambda self, kind: workers if kind is WorkerStarted else of(self, kind))
    whole, again = account.lines(run, 9.4, 154.0)
    assert whole.startswith("this first run took ") and "kernels 68 s, " in whole and "report 9 s" in whole
    assert whole.endswith("; the installation before it: 154 s")
    minutes = (run.last(RunEnded).wall_s + 9.4 - 68.3) / 60
    assert again == f"core and kernels are kept: the next run takes about {minutes:.1f} min"


class Told:
    """A recorded run, as far as an account asks of one."""

    def __init__(self, *events):
        self.events = events

    def of(self, kind):
        return [one for one in self.events if isinstance(one, kind)]

    def last(self, kind):
        return self.of(kind)[-1] if self.of(kind) else None


def worker(role, compile_s=0, cache="warm", starts_s=(0, 0, 0)):
    spawn, imported, built = (seconds * S for seconds in starts_s)
    return WorkerStarted(arm="A", block=0, role=role, pid=1, spawn_ns=spawn, import_ns=imported, build_ns=built,
                         first_step_ns=S, first_stamp_ns=0, cache=cache, parameter_count=1, info={},
                         compile_ns=None if compile_s is None else compile_s * S)


def warm_up(start_s, step_s):
    return WarmUp(arm="A", block=0, start_ns=[n * S for n in start_s], step_ns=[n * S for n in step_s],
                  classification="flat", steady_from=0, capped=False)


def test_every_second_goes_to_one_part():
    ended = RunEnded(status="complete", exit_code=0, wall_s=120.0, spent_s={
        account.CORE: 5.0, account.GATE: 20.0, account.COLD: 7.0, account.BLOCKS: 60.0})
    run = Told(worker("parity", 2, starts_s=(9, 9, 9)), worker("measure", 4, "cold", (1, 2, 3)),
               worker("cold-start", 90, "cold", (9, 9, 9)), warm_up([0, 10, 12], [9, 1, 3]), warm_up([0], [9]), ended,
               worker("parity", None))
    # Cold starts are a part of their own, and the first step of a warm-up is a start's.
    assert account.spent(run, 3.0) == {
        "the framework's core": 5, "kernels": 6, "parity": 18, "cold starts": 7, "starting processes": 6, "warm-up": 5,
        "windows": 45, "the rest": 28, "report": 3}
    assert account.lines(run, 0.4, None) == [
        "this first run took 2.0 min: the framework's core 5 s, kernels 6 s, parity 18 s, cold starts 7 s, starting "
        "processes 6 s, warm-up 5 s, windows 45 s, the rest 28 s",
        "core and kernels are kept: the next run takes about 1.8 min"]
    assert account.lines(run, 3.0, None)[0].endswith(", the rest 28 s, report 3 s")
    assert account.spent(Told(), 3.0)["report"] == 3 and sum(account.spent(Told(), 3.0).values()) == 3


@pytest.mark.parametrize(("events", "first"), [
    ([worker("measure", cache="cold")], True), ([worker("parity", cache="partial")], True),
    ([worker("measure")], False), ([worker("measure", cache=None)], False), ([], False),
    # These compile into a cache of their own, which is thrown away.
    ([worker("cold-start", cache="cold"), worker("measure")], False),
    ([worker("measure", cache="cold"), Resumed(resumed_utc="", discarded_blocks=[])], False)])
def test_a_first_run_is_one_that_compiled_what_stays(events, first):
    assert account.first_run(Told(*events)) is first


def test_make_notes_how_long_it_installed(tmp_path):
    assert account.installed_s(tmp_path) is None
    stamp = tmp_path / account.STAMP
    for text, wanted in (("", None), ("154\n", 154.0)):
        stamp.write_text(text)
        assert account.installed_s(tmp_path) == wanted
