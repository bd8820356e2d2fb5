"""What a PyTorch arm's training step is made of, beside the machine's ceiling: `python tests/peers/profile_pytorch.py`.

    python tests/peers/profile_pytorch.py [pytorch|pytorch:OPTIONS|diffusers] [BATCH]

One thread, preset `ddpm`. A yardstick for docs/performance.md, run by hand on a quiet machine.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from impls.recipe.config import merged, preset
from impls.recipe.operators import operators
from impls.registry import parse_arm

KINDS = (
    ("convolutions, linear layers", "conv|aten::mm|aten::addmm"),
    ("attention", "scaled_dot"),
    ("Adam", "adam|Adam"),
    ("averaged weights", "lerp"),
    ("clipping", "vector_norm|aten::mul_$"),
    ("dropout", "bernoulli|aten::div_$"),
    ("norm, SiLU", "group_norm|silu"),
    ("copies", "copy|contiguous|cat|clone"),
)
STEPS = 6


def product_flops(dtype: torch.dtype, n: int = 2048) -> float:
    """Best of ten n x n products, operations per second of CPU time."""
    a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(11):
        started = time.process_time()
        torch.mm(a, b)
        best = min(best, time.process_time() - started)
    return 2 * n**3 / best


def main() -> None:
    """Profile the arm and the batch size of the command line."""
    arm = parse_arm(sys.argv[1] if len(sys.argv) > 1 else "pytorch")
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    backend = arm.create("cpu", 1)
    config = merged(preset("ddpm"), {"train": {"batch_size": batch}}, "profile")
    shape = (64, config.model.image_size, config.model.image_size, config.model.image_channels)
    trainer = backend.trainer(config, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    for _ in range(3):
        trainer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(STEPS):
            trainer.step()
        trainer.losses()
    total: Counter[str] = Counter()
    for event in profile.key_averages():
        kind = next((name for name, pattern in KINDS if re.search(pattern, event.key)), "the rest")
        total[kind] += event.self_cpu_time_total / STEPS / 1e3
    everything = sum(total.values())
    print(f"{arm.name}, ddpm, batch {batch}, {everything:.0f} ms a step")
    for kind, ms in total.most_common():
        print(f"  {kind:28s} {ms:7.1f} ms {ms / everything:6.1%}")
    # A forward pass and two gradients.
    flop = 3 * batch * sum(one.flop for one in operators(config.model) if one.kind in ("conv2d", "linear"))
    ceiling = product_flops(torch.bfloat16 if "bf16" in arm.options else torch.float32)
    first, products = KINDS[0][0], total[KINDS[0][0]]
    print(f"{first}: {flop / products / 1e6:.0f} of the {ceiling / 1e9:.0f} GFLOP/s of a plain product; "
          f"as fast as that one, the step would take {everything - products + flop / ceiling * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
