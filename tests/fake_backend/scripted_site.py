"""Installs the scripted backends for processes of their own, as an outside package would."""

from __future__ import annotations

import os
from pathlib import Path


def install(env: dict[str, str], folder: Path) -> None:
    """Change `env` so that processes find the backends, and keep their caches in `folder`."""
    import scripted_faults

    info = folder / "site" / "scripted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ddpm_bench.backends]\nscripted = scripted_backend:SPEC\n" + "".join(
        f"{spec.name} = scripted_faults:{spec.name.upper()}\n" for spec in scripted_faults.SPECS))
    for key in [key for key in env if key.startswith("SCRIPTED_")]:
        del env[key]
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(Path(__file__).parent)])
    env["XDG_CACHE_HOME"] = str(folder / "cache")
    env["OMP_NUM_THREADS"] = "1"
