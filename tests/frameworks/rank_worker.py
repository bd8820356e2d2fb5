"""One rank of a short training, by the trainer alone: `python rank_worker.py ARM STEPS OUT` tells losses and hashes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from small_training import config, images  # noqa: E402

from impls.ranks import own_ranks  # noqa: E402
from impls.registry import parse_arm  # noqa: E402

PARTS = ("params", "ema", "exp_avg", "exp_avg_sq")


def chosen():
    """With clipping that clips, averaged weights and flips."""
    return config(train={"batch_size": 12, "grad_clip": 0.5, "flip": True, "lr": 1e-3})


def trained(backend, steps: int):
    """The trainer after so many steps, and their losses."""
    subject = backend.trainer(chosen(), images(40))
    for _ in range(steps):
        subject.step()
    return subject, subject.losses()


def main(arm: str, steps: str, out: str) -> None:
    ranks = own_ranks()
    backend = parse_arm(arm).create("cpu", 1)
    if ranks.size > 1:
        backend.join(ranks)
    subject, losses = trained(backend, int(steps))
    state = subject.state()
    hashes = {}
    for part in PARTS:
        digest = hashlib.sha256()
        for name, array in getattr(state, part).items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        hashes[part] = digest.hexdigest()
    told = {"rank": ranks.rank, "size": ranks.size, "losses": losses, "hashes": hashes}
    Path(out, f"rank-{ranks.rank}.json").write_text(json.dumps(told))
    if backend.group is not None:
        backend.group.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
