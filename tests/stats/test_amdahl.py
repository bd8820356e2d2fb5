"""A step's two parts: back from the steps that they make, and never less than nothing."""

from __future__ import annotations

import pytest

from harness.stats.amdahl import Work, split


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("work", [Work(0.0, 80.0), Work(30.0, 50.0), Work(80.0, 0.0)])
def test_two_steps_give_the_two_parts_back(ranks, work):
    found = split(work.step_ns(), work.step_ns(ranks), ranks)
    assert (found.fixed_ns, found.divided_ns) == (pytest.approx(work.fixed_ns), pytest.approx(work.divided_ns))


def test_no_number_of_ranks_is_faster_than_the_part_that_stays():
    assert Work(30.0, 50.0).step_ns(8192) == pytest.approx(30.0, rel=1e-3)
    assert Work(30.0, 50.0).step_ns(2) == 55


def test_what_noise_leaves_is_no_negative_part():
    assert split(80.0, 30.0, 2) == Work(0.0, 80.0)
    assert split(80.0, 90.0, 2) == Work(80.0, 0.0)
