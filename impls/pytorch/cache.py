"""What PyTorch's compiler keeps between processes, found without importing PyTorch."""

from __future__ import annotations

import os
from pathlib import Path


def compiled_files() -> int:
    """Shared objects in inductor's cache: a start that compiled nothing adds none (other processes may).

    The harness names the cache's folder in the environment of every worker, whose temporary files go with the run.
    """
    return sum(1 for _ in Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.so"))
