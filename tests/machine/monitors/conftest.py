"""The scripted NVML, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_nvml import build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))
