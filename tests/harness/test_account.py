"""Where the time of a first run went: all of it, once, and nothing said of later runs."""

from __future__ import annotations

import pytest

from harness.record.events import RunEnded, WarmUp, WorkerStarted
from harness.run import account

MS = 1_000_000
RUN = {"arms": "scripted,scripted", "blocks": 6, "pairs": 2, "epochs": 0}


def test_its_parts_add_up_to_the_run_and_the_report(lab):
    lab.script(lambda options, process, step: (5000 if step == 0 else 100) * MS)
    end, run = lab.run(**RUN)
    assert set(end.spent_s) == {account.CORE, account.PARITY, account.BLOCKS}
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


def test_make_notes_how_long_it_installed(tmp_path):
    assert account.installed_s(tmp_path) is None
    stamp = tmp_path / account.STAMP
    for text, wanted in (("", None), ("154\n", 154.0)):
        stamp.write_text(text)
        assert account.installed_s(tmp_path) == wanted
