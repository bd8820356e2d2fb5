"""Where the time of one Jittor network call goes, by kind of kernel: `python tests/peers/profile_jittor.py [onednn]`.

A yardstick for docs/performance.md, run by hand on a quiet machine.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

KINDS = (
    ("convolution", "mkl_conv|conv"),
    ("attention products (batched: a loop)", r"matmul|broadcast_to.*broadcast_to.*OP:multiply.*OP:add"),
    ("own operators", "code"),
    ("reductions (GroupNorm, softmax)", "reduce"),
    ("element-wise", "binary|unary|fused"),
    ("copies (concatenation, up-sampling, transposition)", "reindex|transpose|concat|setitem|getitem|copy"),
)


def main() -> None:
    """Profile the preset and batch size of the command line."""
    preset_name, batch = "ddpm", 8
    backend = import_module("impls.jittor.backend").create(tuple(sys.argv[1:]), "cpu", 2)
    import jittor as jt

    from impls.recipe.config import merged, preset

    config = merged(preset(preset_name), {"sample": {"batch_size": batch}}, "profile")
    sampler = backend.sampler(config)
    for _ in range(3):
        sampler.step()
        sampler.synchronize()
    with jt.profile_scope() as report:
        for _ in range(4):
            sampler.step()
            sampler.synchronize()
    total: Counter[str] = Counter()
    for row in report[1:]:
        kind = next((name for name, pattern in KINDS if re.search(pattern, row[0])), "other")
        total[kind] += float(row[3])
    everything = sum(total.values())
    print(f"{preset_name}, batch {batch}, {everything / 4e6:.0f} ms a call")
    for kind, ns in total.most_common():
        print(f"{kind:52s} {ns / everything:6.1%}")
    for row in sorted(report[1:], key=lambda row: -float(row[3]))[:8]:
        print(f"  {float(row[3]) / everything:6.1%}  {row[0][:150]}")


if __name__ == "__main__":
    main()
