"""Runs survive SIGKILL at any moment: a few kills here, more with `pytest tests/harness/test_kills.py --kills 100`."""

from __future__ import annotations

import random

import pytest
from kills import SUITES, Campaign

# Few kills need no counting run first; most moments lie within these.
TYPICAL = {suite: {"runner": 500, "worker": 20, "report": 30} for suite in SUITES}


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_killed_at_any_moment_a_run_is_resumed_to_its_end(real_env, tmp_path, request):
    wanted = request.config.getoption("--kills")
    campaign = Campaign(real_env, tmp_path / "runs", "scripted,scripted:slow", random.Random(7),
                        calls=TYPICAL if wanted < 10 else {})
    done = runs = 0
    while done < wanted:
        done += campaign.one(runs)
        runs += 1
    campaign.close()
