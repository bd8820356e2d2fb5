"""A network looked into: into a folder, or against what stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.protocol import tracing
from harness.stats.arrays import error
from impls.backend import Trainer
from impls.errors import UsageError
from impls.recipe.trace import Arrays, Call
from impls.store.files import written
from impls.store.traces import TraceFolder
from messages import tell


class Errors:
    """Takes a twin's arrays and keeps how far each is from the plain one.

    Attributes:
        found: by group and array, the largest absolute difference, and the difference's norm over the plain one's.
    """

    def __init__(self, plain: TraceFolder) -> None:
        self.plain = plain
        self.found: dict[str, dict[str, tuple[float, float]]] = {}

    def __call__(self, group: str, arrays: Arrays) -> None:
        """Compare a group with the plain one."""
        held = self.plain.read(group)
        own = self.found.setdefault(group, {})
        for name, value in arrays.items():
            if name in held:
                found = error(held[name], value)
                if found is not None:
                    own[name] = found.max_abs, found.norm_rel

    def write(self, path: Path) -> None:
        """Into a JSON file, beside what is there of the other half of the trace."""
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        with written(path):
            path.write_text(json.dumps({**before, **self.found}), encoding="utf-8")


def trace(trainer: Trainer, command: tracing.Trace) -> tracing.TraceDone:
    """Trace; see `harness.protocol.tracing.Trace`.

    Raises:
        UsageError: the folder cannot be written.
    """
    offered: Callable[..., Sequence[Call]] | None = getattr(trainer, "trace", None)
    if offered is None:
        return tracing.TraceDone(offered=False, calls=0)
    plain = TraceFolder(Path(command.output))
    feed = None if command.feed is None else TraceFolder(Path(command.feed))
    if command.twin == "plain":
        calls = offered(command.twin, plain, feed, command.steps)
        plain.finish(calls)
    else:
        errors = Errors(plain)
        calls = offered(command.twin, errors, feed, command.steps)
        errors.write(plain.path / f"{command.twin}.json")
    if not calls:
        raise UsageError(tell("{framework}: no module of the network was called",
                              framework=trainer.info.framework))
    return tracing.TraceDone(offered=True, calls=len(calls))
