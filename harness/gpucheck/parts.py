"""What is checked on a GPU, cheap facts first: each part is one of this program's own command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from messages import recorded

# Arms that compute alike, from what everybody needs to what few do.
GROUPS = {"float32": ("pytorch", "jittor"), "tf32": ("pytorch:tf32", "jittor:tf32"),
          "half": ("pytorch:fp16", "jittor:amp", "pytorch:bf16")}
ARMS = tuple(arm for arms in GROUPS.values() for arm in arms)
BENCH = "run_bench.py --device cuda --dataset synthetic --preset ddpm --batch-size 32"  # English
# Where compilation is in it; what it measures has a limit of its own.
COMPILED_S = 1800.0


@dataclass(frozen=True)
class Part:
    """One command of the check.

    Attributes:
        name: of its log and of what it writes.
        what: it does, for people, in English.
        command: words after the interpreter; {arms} and {out} are filled in.
        arms: of these the ones whose probe worked take part; empty where it needs none.
        limit_s: how long it may take before it counts as hung.
        settings: variables of its environment.
    """

    name: str
    what: str
    command: str
    arms: tuple[str, ...] = ()
    limit_s: float = COMPILED_S
    settings: Mapping[str, str] = field(default_factory=dict)


def probe_of(arm: str) -> str:
    """The name of the part that asks an arm whether it works."""
    return f"probe-{arm.replace(':', '-')}"


def all_parts() -> list[Part]:
    """The whole check, in its order."""
    minutes = {"float32": 2, "tf32": 2, "half": 3}
    return [
        Part("toolkit", recorded("Jittor compiled for this GPU; a kernel and a convolution computed and checked"),
             "-m impls.jittor.runtime --prewarm --device cuda"),  # English
        *(Part(probe_of(arm),
               recorded("{arm} computes a product and a convolution with its gradients, checked", arm=arm),
               f"{BENCH} --suite parity --dry-run --arms {arm},{arm}") for arm in ARMS),  # English
        Part("parity-float32", recorded("both frameworks compute the same in strict float32"),
             f"{BENCH} --suite parity --arms {{arms}} --out {{out}}", GROUPS["float32"]),  # English
        *(Part(f"train-{name}", recorded("training steps, {name}, {minutes} minutes at most", name=name,
                                         minutes=minutes[name]),
               f"{BENCH} --suite train-speed --pairs 5 --epochs 0 --time-limit {minutes[name]} "  # English
               "--arms {arms} --out {out}", arms) for name, arms in GROUPS.items()),
        # Where Jittor's compile threads crash, its one thread either trains or says on which line of Python it dies.
        Part("one-compiler", recorded("jittor:amp trains while Jittor compiles one kernel at a time"),
             "-m impls.train --backend {arms} --device cuda --dataset-name synthetic --preset tiny "  # English
             "--batch-size 4 --max-steps 3 --sample-every 0 --log-root {out}", ("jittor:amp",),  # English
             settings={"use_parallel_op_compiler": "1", "PYTHONFAULTHANDLER": "1"}),
        Part("sample-float32", recorded("DDIM with 10 network calls, 4 minutes at most"),
             f"{BENCH} --suite sample-speed --pairs 5 --steps 10 --time-limit 4 "  # English
             "--arms {arms} --out {out}",
             GROUPS["float32"]),
        Part("tests", recorded("the tests that need a GPU"),
             "-m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors"),  # English
    ]
