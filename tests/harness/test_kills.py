"""Runs survive SIGKILL at any moment: a few kills here, more with `pytest tests/harness/test_kills.py --kills 100`."""

from __future__ import annotations

import random

import pytest
from kills import Campaign


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_killed_at_any_moment_a_run_is_resumed_to_its_end(real_env, tmp_path, request):
    campaign = Campaign(real_env, tmp_path / "runs", "scripted,scripted:slow", random.Random(7))
    done = runs = 0
    while done < request.config.getoption("--kills"):
        done += campaign.one(runs)
        runs += 1
    campaign.close()
