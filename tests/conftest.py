"""Options shared by all tests. No test process ever holds both frameworks: see tests/frameworks/conftest.py."""

import os
import time
from collections.abc import Iterator

import pytest

from messages import VARIABLE

# Whatever the language of whoever runs the tests.
os.environ[VARIABLE] = "en"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--framework", choices=("pytorch", "jittor"), help="run tests/frameworks in this framework")
    parser.addoption("--kills", type=int, default=2, help="how many kills each test does that kills at random")
    parser.addoption("--clean-networks", type=int, default=6,
                     help="how many random networks tests/frameworks/test_align.py holds against themselves")


# Files that take longest, so that none of them is left to one process while the other has nothing to do.
LONG = ("test_kills", "test_sbatch", "test_real_processes", "test_peers", "test_networks", "test_calibration",
        "test_faults", "test_pytorch", "test_resumed_journal", "test_why_leftouts", "test_groups", "test_two_runs",
        "test_pair", "test_outside_suite", "test_report_browser", "test_two_languages", "test_report_partial")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; all others as they were found."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Undo what a test leaves in this process's environment: making a framework ready sets variables for good."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


CLOCK = time.perf_counter_ns


@pytest.fixture(autouse=True)
def own_clock() -> Iterator[None]:
    """Fail a test that leaves this process a clock that stands: later ones would measure nothing."""
    yield
    left, time.perf_counter_ns = time.perf_counter_ns, CLOCK
    assert left is CLOCK, "this test replaced time.perf_counter_ns of its process for good"
