"""The training's command line in this process, with a backend that needs no framework."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import scripted_trainer

from impls import registry
from impls.data import datasets
from impls.tools.train import run as train


@pytest.fixture
def scripted(monkeypatch):
    """The scripted backend, known to the registry; the process keeps its signal handlers."""
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, scripted_trainer.SPEC))
    monkeypatch.setattr(scripted_trainer.ScriptedBackend, "on_step", None)
    # Hooks of fork cannot be taken back.
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    # A picture takes longer than everything else here together.
    monkeypatch.setattr("impls.tools.train.outputs.save_curve", lambda path, *_: path.write_text("a picture"))
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield scripted_trainer.ScriptedBackend
    for number, handler in kept.items():
        signal.signal(number, handler)


class Trained:
    """What a command line did.

    Attributes:
        code: exit code.
        out: standard output.
        errors: lines of standard error that are no progress bar.
        folder: the newest training's folder; None where there is none.
    """

    def __init__(self, code: int, out: str, err: str, root: Path) -> None:
        self.code, self.out = code, out
        self.errors = [line.strip() for line in err.replace("\r", "\n").splitlines()
                       if line.strip() and not re.match(r"training: .*\d+/\d+ \[", line)]
        folders = sorted(root.glob("*"), key=lambda path: path.stat().st_mtime_ns)
        self.folder = folders[-1] if folders else None

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there."""
        return sorted(int(path.stem[5:]) for path in (self.folder / "checkpoints").glob("step-*.safetensors"))

    @property
    def lines(self) -> list[dict]:
        """The log."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of the log."""
        return [(line["step"], line["loss"]) for line in self.lines if "loss" in line]


@pytest.fixture
def trained(scripted, tmp_path, capsys):
    """Run the command line in this process on 40 images (2 held out), 4 in a batch: 9 steps in an epoch."""
    real = datasets.prepare

    def prepare(name, *_, echo, channels):
        found = real("digits", cache_dir=tmp_path / "cache", echo=lambda text: None, channels=channels)

        class Few(datasets.Dataset):
            def open(self):
                return super().open()[:40]

        name = "digits" if name == "auto" else name
        return Few(name, found.path, 40, found.shape, f"hash of {name}", "for a test")

    def run(*words, root="logs", backend="scripted-trainer"):
        named = [] if backend is None else ["--backend", backend]
        rooted = [] if root is None else ["--log_root", str(tmp_path / root)]
        code = train.main([*named, "--device", "cpu", *rooted, *map(str, words)])
        captured = capsys.readouterr()
        return Trained(code, captured.out, captured.err, tmp_path / (root or "logs"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "prepare", prepare)
        yield run
