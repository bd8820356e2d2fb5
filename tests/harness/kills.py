"""A campaign of kills: real runs, SIGKILL at seeded moments of their own work, resumed until everything is measured.

As a script, also for the real frameworks (from the repository's root):

    python tests/harness/kills.py --kills 100
    python tests/harness/kills.py --kills 10 --arms pytorch,jittor
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests" / "fake_backend"
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from harness.record.events import BlockState, Case, ParityResult, Window  # noqa: E402
from harness.record.run import (  # noqa: E402
    RecordedRun,
    finished_blocks,  # noqa: E402
    read_run,
    report_due,  # noqa: E402
)

BLOCKS, PAIRS = 6, 2
TINY = {"preset": "tiny", "train": {"batch_size": 2}, "sample": {"batch_size": 2},
        "model": {"base_channels": 16, "channels": [16, 16], "groups": 4, "blocks_per_level": 1,
                  "attention_resolutions": [16]}}
SUITES = {"train-speed": ["--dataset", "digits", "--epochs", "0"], "sample-speed": ["--steps", "5"]}
# What is left of a killed run must be gone by then.
NOTICE_S = 5.0
ROLES = ("runner", "worker", "report")
LIMIT_S = 900


@dataclass
class Campaign:
    """Runs that are killed.

    Attributes:
        env: environment of the runs; a variable in it that no other process has tells their processes.
        folder: results and settings.
        arms: what is measured.
        chance: decides when and whom.
        kills: victims so far, by role.
        calls: how many calls a process of each role makes, by suite; counted where it is not given.
    """

    env: dict[str, str]
    folder: Path
    arms: str
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    calls: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mark = self.env["KILL_CAMPAIGN"] = str(self.folder)
        self.temp = Path(tempfile.mkdtemp(prefix="kills-", dir="/tmp"))
        self.env |= {"TMPDIR": str(self.temp), "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor"),
                     "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
                         [str(FAKE / "kill_hook"), *filter(None, [self.env.get("PYTHONPATH")])])}
        self.folder.mkdir(parents=True)
        self.settings = self.folder / "settings.json"
        self.settings.write_text(json.dumps({"experiment": TINY}))

    def close(self) -> None:
        """Remove the temporary folder, which must be empty."""
        self.temp.rmdir()

    def command(self, suite: str, out: Path) -> list[str]:
        """A new run."""
        return ["--suite", suite, "--config", str(self.settings), "--arms", self.arms, "--device", "cpu", "--blocks",
                str(BLOCKS), "--pairs", str(PAIRS), "--out", str(out), "--quiet", *SUITES[suite]]

    def run(self, words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        """One process from start to end, and everything of it gone afterwards."""
        with (self.folder / "output").open("w+") as output:
            process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env={**self.env, **env}, text=True,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            process.wait(LIMIT_S)
            self.nothing_left()
            output.seek(0)
            return subprocess.CompletedProcess(words, process.returncode, output.read())

    def nothing_left(self) -> None:
        """Raise AssertionError where processes or temporary files outlive the run."""
        _, alive = psutil.wait_procs(self.processes(), timeout=NOTICE_S)
        told = [process.info["cmdline"] for process in alive]
        assert not alive, f"still there after {NOTICE_S} s: {told}"
        assert not self.processes()
        left = list(self.temp.iterdir())
        assert not left, f"temporary files: {left}"

    def processes(self) -> list[psutil.Process]:
        """Everything that runs with this campaign's environment."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                if process.environ().get("KILL_CAMPAIGN") == self.mark and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def count(self, suite: str) -> dict[str, int]:
        """How many calls a process of each role makes at most, from a run that is not killed."""
        if suite not in self.calls:
            out, counts = self.folder / f"whole-{suite}", self.folder / f"counts-{suite}"
            counts.mkdir()
            done = self.run(["run_bench.py", *self.command(suite, out)], KILL_HOOK_COUNTS=str(counts))
            assert done.returncode == 0, done.stdout
            self.check(only(out), suite)
            self.calls[suite] = {role: max(int(file.read_text()) for file in counts.glob(f"{role}.*"))
                                 for role in ROLES}
            shutil.rmtree(out)
        return self.calls[suite]

    def plan(self, suite: str) -> str:
        """A moment and a victim."""
        calls, role = self.count(suite), self.chance.choices(ROLES, [8, 2, 1])[0]
        victim = self.chance.choice(["self", "self", "worker", "both"]) if role == "runner" else "self"
        # Late moments are few, but the report is built then.
        late = role == "runner" and self.chance.random() < 0.2
        number = calls[role] - self.chance.randrange(12) if late else self.chance.randint(1, calls[role])
        return f"{role}:{number}:{victim}"

    def one(self, number: int) -> int:
        """One run, killed once or more, and brought to its end; returns the kills."""
        suite = self.chance.choice(["train-speed", "train-speed", "train-speed", "sample-speed"])
        out, kills, story = self.folder / f"run-{number}", 0, [suite]
        for attempt in range(8):
            plan = self.plan(suite) if attempt == 0 or (attempt < 3 and self.chance.random() < 0.4) else None
            begun = out.is_dir() and any((path / "journal.jsonl").exists() for path in out.iterdir())
            before = read_run(only(out)) if begun else None
            if before is not None and before.status == "complete" and not report_due(before.path):
                break
            if before is not None and before.started is None:
                # Killed in its first line: a resumed run refuses, and nothing is lost.
                shutil.rmtree(before.path)
                before = None
            words = ["--resume", str(only(out)), "--quiet"] if before is not None else self.command(suite, out)
            turns = self.folder / f"turns-{number}-{attempt}"
            turns.mkdir()
            done = self.run(["run_bench.py", *words], KILL_HOOK=plan or "none:0:self", KILL_HOOK_TURNS=str(turns),
                            KILL_HOOK_SPARE=str(self.chance.randrange(2 * BLOCKS)))
            story.append(f"{plan}: {done.returncode}")
            struck = (turns / "struck").exists()
            if struck and plan is not None:
                kills += 1
                self.kills[plan.split(":")[0] + ":" + plan.split(":")[2]] += 1
            if before is not None:
                kept(before, read_run(only(out)))
            assert struck or done.returncode == 0, f"{story}\n{done.stdout}"
            if done.returncode == 0:
                break
        self.check(only(out), suite, story)
        shutil.rmtree(out)
        return kills

    def check(self, path: Path, suite: str, story: object = "") -> None:
        """Raise AssertionError where a case is missing, or a block is lost or counted twice."""
        run = read_run(path)
        assert run.status == "complete", (story, run.status)
        last = {case.case_id: case.status for case in run.of(Case)}
        assert set(last.values()) == {"measured"}, (story, last)
        wanted = {f"extras-{slot}" for slot in run.arms} | ({"parity-B"} if suite == "train-speed" else {"samples-A"})
        assert wanted <= set(last), (story, last)
        states = Counter(state.block for state in run.of(BlockState))
        assert set(states.values()) == {1} and set(range(BLOCKS)) <= set(states), (story, states)
        windows = Counter((w.block, w.arm) for w in run.of(Window) if w.kind == "stepwise")
        assert windows == {(block, slot): PAIRS for block in states for slot in run.arms}, (story, windows)
        pairs = Counter((w.block, w.arm, w.kind, w.cell, w.images, w.pair) for w in run.of(Window))
        assert set(pairs.values()) == {1}, (story, pairs)
        if suite == "train-speed":
            assert len({(p.arm_a, p.arm_b) for p in run.of(ParityResult)}) == len(run.arms) - 1, story
        hidden = [file for file in path.rglob(".*")]
        assert not hidden, (story, hidden)
        assert not report_due(path) and json.loads((path / "run.json").read_text())["suite"] == suite


def only(out: Path) -> Path:
    """The one run folder that has a journal."""
    (path,) = [path for path in out.iterdir() if (path / "journal.jsonl").exists()]
    return path


def kept(before: RecordedRun, after: RecordedRun) -> None:
    """Raise AssertionError where a block that was finished before has changed."""
    for block in finished_blocks(before):
        for kind in (Window, BlockState):
            old, new = ([event for event in run.of(kind) if event.block == block] for run in (before, after))
            assert old == new, f"block {block} is not what it was"


def main() -> int:
    """Kill as often as asked; the exit code is 0 when every run came to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", default="scripted,scripted:slow")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        env = dict(os.environ)
        if "scripted" in chosen.arms:
            install(env, Path(name))
        campaign = Campaign(env, Path(name) / "runs", chosen.arms, random.Random(chosen.seed))
        done = runs = 0
        while done < chosen.kills:
            done += campaign.one(runs)
            runs += 1
            print(f"{done} kills, {runs} runs: {dict(campaign.kills)}", flush=True)
        campaign.close()
    return 0


def install(env: dict[str, str], folder: Path) -> None:
    """Put the scripted backend beside the installed ones, as an outside package."""
    import scripted_site

    scripted_site.install(env, folder)


if __name__ == "__main__":
    sys.path.insert(0, str(FAKE))
    sys.exit(main())
