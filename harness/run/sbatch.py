"""`--sbatch FILE`: a SLURM script for a run in parts, an array task for each, that a person can read and change."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness.options import BenchConfig, experiment
from harness.plan import make_plans
from harness.run.resolve import asked_of, given_pair, given_weights
from impls.errors import UsageError
from impls.recipe.config import require_text
from impls.registry import Device
from impls.tools.cli import alias
from messages import language, tell

# What the script says in its own way, with their values.
_OWN = ("--sbatch", "--tasks", "--out")
# What prints it instead of writing it.
_SHOWN = "--dry-run"
# So long before its time is up a task is told, and ends its journal.
WARNED_S = 120


@dataclass(frozen=True)
class Script:
    """A script that is not written yet.

    Attributes:
        path: where it is to be.
        parts: the folder that all tasks write to, a folder of its own each.
        text: of the file.
    """

    path: Path
    parts: Path
    text: str

    def write(self) -> None:
        """Write the file, and make the folder of its tasks, where SLURM writes what they say.

        Raises:
            UsageError: there is such a file, or one of both cannot be written.
        """
        made = [one for one in (self.parts, *self.parts.parents) if not os.path.lexists(one)]
        try:
            self.parts.mkdir(parents=True)
            self._write_text()
        except OSError as error:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            if isinstance(error, FileExistsError) and error.filename == str(self.path):
                raise UsageError(tell("--sbatch {path}: is there already: choose another name, or remove it",
                                      path=self.path)) from error
            raise UsageError(tell("--sbatch {path}: cannot write {file}: {why}: choose a folder of your own",
                                  path=self.path, file=error.filename or self.path,
                                  why=error.strerror or error)) from error

    def _write_text(self) -> None:
        file = self.path.open("x", encoding="utf-8")
        try:
            # Much is written only when it is closed.
            with file:
                file.write(self.text)
        except OSError:
            self.path.unlink()
            raise

    def sentence(self) -> str:
        """What to do with it."""
        return tell("wrote {path}; next: sbatch {quoted}", path=self.path, quoted=shlex.quote(str(self.path)))


def script(options: BenchConfig, overrides: Mapping[str, Any], words: Sequence[str]) -> Script:
    """The script of a run.

    Args:
        options: what the user said.
        overrides: what the configuration file says of the experiment.
        words: the command line.

    Raises:
        UsageError: its tasks would refuse the run, as far as that can be known where there may be no GPU.
    """
    _check(options, overrides)
    for place in (os.getcwd(), sys.executable, os.path.abspath(sys.argv[0])):
        require_text(place)
    name = f"{options.suite}-parts-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    parts, path = Path(os.path.abspath(options.out)) / name, Path(options.sbatch or "")
    program = f"{shlex.quote(sys.executable)} {shlex.quote(os.path.abspath(sys.argv[0]))}"
    merged = shlex.quote(str(Path(options.out) / name.replace("-parts-", "-merged-")))
    folder, file = shlex.quote(str(parts)), shlex.quote(str(path))
    of, blocks = options.tasks, options.blocks
    lines = [
        "#!/bin/bash",
        tell("# One run of {blocks} blocks, measured in {of} parts: task i takes blocks i, i + {of}, ... into a "
             "journal of its own.", blocks=blocks, of=of),
        tell("#   measure it           sbatch {file}", file=file),
        tell("#   one part alone       sbatch --array=1 {file}     (goes on where it was)", file=file),
        tell("#   all parts together   python -m reports merge {folder}/part-* --out {merged}", folder=folder,
             merged=merged),
        f"#SBATCH --job-name={options.suite}",
        f"#SBATCH --array=0-{of - 1}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        *([f"#SBATCH --cpus-per-task={options.threads}"] if options.threads is not None else []),
        *(["#SBATCH --gres=gpu:1"] if options.device == "cuda" else []),
        tell("# What else runs on a node disturbs what is measured there."),
        "#SBATCH --exclusive",
        tell("# {seconds} s before its time is up a task ends its journal; every finished block is kept.",
             seconds=WARNED_S),
        f"#SBATCH --signal=B:TERM@{WARNED_S}",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={folder}/task-%a.log",
        tell("# Yours, here or on the command line of sbatch: --partition, --account, --time.")
        if options.device == "cuda" else
        tell("# Yours, here or on the command line of sbatch: --partition, --account, --time, and --gres=gpu:1 for a "
             "GPU."),
        "set -euo pipefail",  # English
        "",
        f"cd {shlex.quote(os.getcwd())}",  # English
        f"part={folder}/part-$SLURM_ARRAY_TASK_ID",
        'for journal in "$part"/*/journal.jsonl; do',  # English
        '    if [ -s "$journal" ]; then',
        f'        exec {program} --resume "$(dirname "$journal")"{_language(words)}',  # English
        "    fi",
        "done",
        f'exec {program} {shlex.join(_kept(words))} --share "$SLURM_ARRAY_TASK_ID/{of}" --out "$part"',  # English
    ]
    return Script(path, parts, "\n".join(lines) + "\n")


def _check(options: BenchConfig, overrides: Mapping[str, Any]) -> None:
    device: Device = "cuda" if any(arm.device_fault("cpu") for arm in options.compared) else "cpu"
    given_weights(options, overrides.get("sample", {}))
    given_pair(options)
    recipe = experiment(options, overrides, device)
    # Built anew, because a copy keeps what was worked out before.
    first = BenchConfig(**{**options.model_dump(), "share": f"0/{options.tasks}", "sbatch": None})
    make_plans(asked_of(first, device, recipe, overrides))


def _language(words: Sequence[str]) -> str:
    """What a task that goes on is told of it, where the command line names it; else the environment does."""
    said = any(word.partition("=")[0] == "--lang" for word in words)
    return f" --lang {language()}" if said else ""  # English


def _kept(words: Sequence[str]) -> list[str]:
    """The command line without what the script says itself."""
    kept: list[str] = []
    before = ""
    for word in words:
        name, equals, _ = alias(word).partition("=")
        if before in _OWN or (before == _SHOWN and word.lower() in ("true", "false")):
            before = ""
            continue
        before = "" if equals else name
        if name not in (*_OWN, _SHOWN, "--no-dry-run"):
            kept.append(word)
    return kept
