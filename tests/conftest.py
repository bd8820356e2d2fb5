"""Options shared by all tests. No test process ever holds both frameworks: see tests/frameworks/conftest.py."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--framework", choices=("pytorch", "jittor"), help="run tests/frameworks in this framework")
    parser.addoption("--kills", type=int, default=2, help="how many kills tests/harness/test_kills.py does")
