"""An arm that fails costs its own cases alone, also one that hangs or ends its process."""

from __future__ import annotations

from collections import Counter

import pytest
import scripted_backend

from harness.record.events import Case, Verdict, Window
from impls.errors import UsageError

SHORT = {"arms": "scripted,scripted", "blocks": 6, "pairs": 4, "epochs": 0}


def verdict(run, metric="step time"):
    return next(v for v in run.of(Verdict) if v.metric == metric)


@pytest.mark.parametrize("how", ["crash", "raise", "oom", "lost", "full"])
def test_a_failing_arm_leaves_the_other_measured(lab, how, monkeypatch):
    monkeypatch.setattr(scripted_backend, "CRASH_AT", 24)
    end, run = lab.run(**{**SHORT, "arms": f"scripted:{how},scripted"})
    assert (end.status, end.exit_code) == ("failed", 1)
    failed = [case for case in run.of(Case) if case.status == "failed"]
    assert {case.arm for case in failed} == {"A"}
    assert [case.block for case in failed] == [0, 1], "an arm that failed twice in a row is not tried again"
    assert "hello from the log" in failed[0].log_tail
    words = {"crash": "status 3", "raise": "went wrong", "oom": "no room",
             "lost": "RuntimeError: CUDA error: unspecified launch failure: the driver lost the GPU",
             "full": "Run cmd failed: g++ a.cc: /usr/bin/ld: final link failed: No space left on device: make room"}
    assert words[how] in failed[0].reason and "\n" not in failed[0].reason
    assert {case.block for case in run.of(Case) if case.arm == "B" and case.status == "measured"} >= set(range(6))
    assert Counter(w.arm for w in run.of(Window) if w.kind == "stepwise")["B"] == 6 * 4
    assert verdict(run).ratio is None and verdict(run).reason == "no block measured both arms"
    assert all(handle.killed for handle in lab.sessions.handles)


def test_a_hang_is_a_failure_too(lab):
    end, run = None, None

    class Deaf:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def poll(self, timeout=0.0):
            lab.clock.sleep(timeout or 0.0)
            return False

    start = lab.sessions.start

    def deaf_second(slot, arm, log, *rest):
        session = start(slot, arm, log, *rest)
        if slot == "B" and "block-2" in log.name:
            session.channel = Deaf(session.channel)
        return session

    lab.sessions.start = deaf_second
    end, run = lab.run(**SHORT)
    (failed,) = [case for case in run.of(Case) if case.status == "failed"]
    assert (failed.arm, failed.block) == ("B", 2) and "no answer" in failed.reason
    assert end.exit_code == 1
    assert verdict(run).blocks == 5


def test_an_arm_that_cannot_be_used_ends_the_run_before_it_begins(lab):
    with pytest.raises(UsageError, match="told to be unusable"):
        lab.run(**{**SHORT, "arms": "scripted,scripted:unusable"})


def test_a_worker_that_ends_with_status_zero_is_started_again(lab):
    """Jittor ends its process so when it has rebuilt itself."""
    end, run = lab.run(**{**SHORT, "arms": "scripted,scripted:quit"})
    assert end.exit_code == 1
    starts = sum(1 for case in run.of(Case) if case.status == "failed")
    assert starts and all("status 0" in case.reason for case in run.of(Case) if case.status == "failed")
    assert len(lab.sessions.handles) == 1 + 3 + 6 + 3 + 3
