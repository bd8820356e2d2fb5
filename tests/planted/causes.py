"""Does suite `why` find what was planted in a real framework? `python tests/planted/causes.py [case ...]`.

To be run by hand on a quiet machine, some minutes a case: it measures. Every cause must hold all of the gap within 5
points, and nothing else may explain it; equal arms must have no gap. Exits with the number of cases that do not hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness.record.events import Share  # noqa: E402
from harness.record.run import RecordedRun, read_run  # noqa: E402

# Attention at every resolution, so that computing it again is more than noise.
SMALL = {"experiment": {"model": {"base_channels": 16, "channels": [16, 32], "groups": 8, "blocks_per_level": 1,
                                  "attention_resolutions": [32, 16], "dropout": 0.0}, "train": {"batch_size": 2}}}
# Case -> its arms, and the method and cause that must be found; None where there is no gap.
CASES: dict[str, tuple[str, tuple[str, str] | None]] = {
    "attention": ("pytorch,planted:attention", ("isolated", "attention")),
    "optimiser": ("pytorch,planted:optimiser", ("cuts", "optimizer")),
    "loader": ("pytorch,planted:loader", ("cuts", "data")),
    "same-pytorch": ("pytorch,pytorch", None),
    "same-jittor": ("jittor,jittor", None),
    "same-planted": ("pytorch,planted", None),
}
MOST_OFF = 0.05


def measured(arms: str, folder: Path) -> RecordedRun:
    """A short run of the suite."""
    recipe = folder / "small.json"
    recipe.write_text(json.dumps(SMALL))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "planted")])}
    command = [sys.executable, str(ROOT / "run_bench.py"), "--suite", "why", "--arms", arms, "--config", str(recipe),
               "--preset", "tiny", "--dataset", "synthetic", "--device", "cpu", "--threads", "1", "--pairs", "4",
               "--blocks", "10", "--quiet", "--out", str(folder / "results")]
    subprocess.run(command, env=env, cwd=folder, check=True)
    (run,) = [path for path in (folder / "results").iterdir() if path.is_dir()]
    return read_run(run)


def faults(run: RecordedRun, planted: tuple[str, str] | None) -> list[str]:
    """What the run says that is not so."""
    shares = [share for share in run.of(Share) if share.of == "step"]
    if planted is None:
        return [share.sentence(run.arms) for share in shares if share.word not in ("no-gap", "not-measured")]
    method, cause = planted
    found = [f"{share.method} {share.cause}: {share.share:.1%}" for share in shares
             if (share.method, share.cause) == planted and share.share is not None
             and (share.says != "explains" or abs(share.share - 1) > MOST_OFF)]
    if not any((share.method, share.cause) == planted and share.share is not None for share in shares):
        found.append(f"no share of {cause} by {method}")
    # Phases consist of operators.
    through = ("forward", "backward") if method == "isolated" else ()
    return found + [f"also {share.sentence(run.arms)}" for share in shares if share.says == "explains"
                    and (share.method, share.cause) != planted and share.cause not in (*through, "all")]


def main(names: list[str]) -> int:
    """One line a case."""
    bad = 0
    for name in names or CASES:
        arms, planted = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            run = measured(arms, Path(folder))
        share = next((one for one in run.of(Share) if planted == (one.method, one.cause) and one.of == "step"), None)
        told = faults(run, planted)
        bad += bool(told)
        print(f"{name}: {'does not hold' if told else 'holds'}{f': {share.sentence(run.arms)}' if share else ''}")
        for text in told:
            print(f"  {text}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
