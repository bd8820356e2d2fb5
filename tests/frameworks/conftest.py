"""Tests of the two implementations, run once per framework: `pytest tests/frameworks --framework jittor`."""

from __future__ import annotations

import signal
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest


def pytest_ignore_collect(collection_path, config: pytest.Config) -> bool | None:
    """Without --framework nothing here is collected: the plain run must not import a framework."""
    return True if config.getoption("--framework") is None and collection_path.name != "conftest.py" else None


@pytest.fixture(scope="session")
def framework(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--framework")


def let_children_be_killed() -> None:
    """Jittor, once imported, ends its process without a word when a child was killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def killable_children() -> None:
    let_children_be_killed()


class Framework:
    """The modules of one implementation by name, e.g. `fw.unet.UNet`."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "jittor":
            from impls.jittor import runtime

            # What Jittor compiles flushes subnormals, and numpy, which looks once, then warns of them.
            np.finfo(np.float32)
            runtime.prepare("cpu")
            import_module("jittor")
            let_children_be_killed()

    def __getattr__(self, module: str) -> ModuleType:
        return import_module(f"impls.{self.name}.{module}")


@pytest.fixture(scope="session")
def fw(framework: str) -> Framework:
    return Framework(framework)
