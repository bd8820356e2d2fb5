"""Random command lines and configuration files: each gives exit code 0, or 2 with one line; never a traceback.

A few hundred with a fixed seed; DDPM_BENCH_FUZZ_INPUTS=10000 tries ten thousand (about 10 minutes), and
DDPM_BENCH_FUZZ_SEED=N others. Nothing is started: where a run, a training or a server would begin, an input has passed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import cli
from harness.doctor import doctor
from harness.options import BenchConfig
from harness.record.events import Finding, RunEnded, RunStarted
from harness.record.writer import RunWriter
from harness.run import execute as local
from harness.run import resolve
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, preset
from impls.tools.sample import options as sample_options
from impls.tools.train import options as train_options
from reports import __main__ as reports_cli
from reports import index, report, serve

INPUTS = int(os.environ.get("DDPM_BENCH_FUZZ_INPUTS", "300"))
SEED = int(os.environ.get("DDPM_BENCH_FUZZ_SEED", "0"))
# What has no business in any option, and what sits at the edge of being right.
ODD = ("", " ", "-1", "0", "1", "2", "6", "7", "1e9", "nan", "inf", "-inf", "1.5", "0x10", "١٢", "9" * 18, "9" * 19,
       "9" * 5000, "None", "null", "true", "false", "a" * 3000, "\x00", "\udcff", "\u202e", "-", "--", "=", "--=", ",",
       ":", "+", "pytorch:", ":bf16", "pytorch,,jittor", "a=b", "\n", "\x1b[31m", "🙂", "../..", "/", "/dev/null", "{}",
       "[]", "*", "~", "@file", "%s", "{0}", "\\", "'", '"', "2" * 63, str(2**63), str(-(2**63)), "1,2", "ddpm",
       "10,50,ddpm")
GOOD = {"arms": ["pytorch", "jittor", "pytorch,pytorch", "pytorch,jittor:onednn", "pytorch:bf16+channels_last",
                 "pytorch:tf32", "pytorch:attention=math,jittor:norm=onednn+optimiser=onednn",
                 ",".join(["pytorch"] * 8), ",".join(["jittor"] * 9)],
        "backend": ["pytorch", "jittor:onednn", "jittor:amp", "pytorch:compile"],
        "steps": ["5", "10,50", "ddpm", "1,1000,ddpm"], "interpreter": ["pytorch=/bin/sh", "jittor:onednn=/bin/sh",
                                                                "jittor:norm=onednn=/bin/sh"]}
ELSEWHERE = ("-h", "--help", "--bogus", "--dry-run=true", "--no-quiet", "--config_path")


def words_of(annotation):
    """The words that a Literal allows, inside unions too."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(word) for word in typing.get_args(annotation)]
    return [word for part in typing.get_args(annotation) for word in words_of(part)]


def is_flag(annotation):
    return annotation is bool


@dataclass
class Source:
    """Random inputs from one seed; `paths` are names of files and folders of every kind."""

    seed: int
    paths: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.rng = random.Random(self.seed)

    def value(self, name, annotation):
        """A value of an option: one that is right, a path, or something odd."""
        choice = self.rng.random()
        if choice < 0.45 and (right := GOOD.get(name, []) + words_of(annotation)):
            return self.rng.choice(right)
        if choice < 0.45 and "int" in str(annotation):
            return str(self.rng.choice([0, 1, 2, 6, 8, 64, 2**31, 2**63 - 1]))
        if choice < 0.6:
            return self.rng.choice(self.paths)
        return self.rng.choice(ODD)

    def command_line(self, model, known_paths=()):
        """A command line over the options of a settings model."""
        argv = []
        fields = list(model.model_fields.items())
        for _ in range(self.rng.randrange(5)):
            name, info = self.rng.choice(fields)
            dashed = "--" + (name.replace("_", "-") if self.rng.random() < 0.7 else name)
            if is_flag(info.annotation):
                argv.append(self.rng.choice([dashed, "--no-" + dashed[2:], f"{dashed}={self.rng.choice(ODD)}"]))
                continue
            value = self.value(name, info.annotation)
            argv += [f"{dashed}={value}"] if self.rng.random() < 0.4 else [dashed, value]
        if known_paths and self.rng.random() < 0.4:
            argv += self.rng.choice(known_paths)
        if self.rng.random() < 0.1:
            argv.insert(self.rng.randrange(len(argv) + 1), self.rng.choice([*ELSEWHERE, *ODD]))
        if argv and self.rng.random() < 0.05:
            argv.pop(self.rng.randrange(len(argv)))
        return argv

    def thing(self, depth=0):
        """Any JSON value."""
        kind = self.rng.randrange(10 if depth < 3 else 7)
        if kind < 2:
            return self.rng.choice(ODD)
        if kind < 5:
            return self.rng.choice([0, 1, -1, 6, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, 1e-320,
                                    float("nan"), float("inf")])
        if kind < 7:
            return self.rng.choice([None, True, False])
        if kind < 8:
            return [self.thing(depth + 1) for _ in range(self.rng.randrange(4))]
        return {self.rng.choice(ODD): self.thing(depth + 1) for _ in range(self.rng.randrange(4))}

    def settings(self, model):
        """A JSON object in a model's shape, with wrong values and unknown keys in places."""
        data = {}
        for name, info in model.model_fields.items():
            if self.rng.random() > 0.15:
                continue
            if hasattr(info.annotation, "model_fields"):
                data[name] = self.settings(info.annotation) if self.rng.random() < 0.9 else self.thing()
            elif self.rng.random() < 0.5 and (right := GOOD.get(name, []) + words_of(info.annotation)):
                data[name] = self.rng.choice(right)
            else:
                data[name] = self.thing()
        if self.rng.random() < 0.1:
            data[self.rng.choice(ODD)] = self.thing()
        return data

    def file(self, model):
        """The bytes of a configuration file: mostly settings, sometimes broken, sometimes anything."""
        if self.rng.random() < 0.1:
            return self.rng.choice([b"", b"\xef\xbb\xbf{}", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 50_000, b"\x00" * 9,
                                    b'{"seed": ' + b"9" * 5000 + b"}", b'{"arms": "\\ud800"}', b'{"seed":1,"seed":""}'])
        data = self.settings(model)
        if self.rng.random() < 0.6:
            data["experiment"] = self.settings(ExperimentConfig) if self.rng.random() < 0.9 else self.thing()
        text = bytearray(json.dumps(data).encode())
        if self.rng.random() < 0.1:
            text[self.rng.randrange(len(text))] = self.rng.randrange(256)
        return bytes(text)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "huge.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken-training").mkdir()
    (tmp_path / "broken-training" / "config.json").write_text('{"num_epochs": "many"}')
    (tmp_path / "diffusers").mkdir()
    (tmp_path / "diffusers" / "config.json").write_text('{"_class_name": 3}')
    runs = [run_folder(tmp_path / "results", status) for status in ("interrupted", "complete")]
    (tmp_path / "results" / "odd").mkdir()
    (tmp_path / "results" / "odd" / "journal.jsonl").write_bytes(b"\xff" * 100)
    return Source(SEED, [str(tmp_path / "none"), "config.json", *(str(path) for path in tmp_path.iterdir()), *runs,
                         str(tmp_path / "results" / "odd"), str(tmp_path / "file" / "below")])


def run_folder(results, status):
    """A run that `--resume` finds."""
    writer = RunWriter.create(results, "train-speed")
    writer.append(RunStarted(run_id="r", suite="train-speed", started_utc="now", command=[], arms=[],
                             bench=BenchConfig().model_dump(mode="json"), config_sha256="0", declared={"device": "cpu"},
                             experiment=preset("tiny").model_dump(mode="json")))
    writer.append(Finding(severity="info", code="c", message="m"))
    writer.finish(RunEnded(status=status, exit_code=0, wall_s=1.0))
    writer.close()
    return str(writer.path)


def check(code, printed, argv):
    assert code in (0, 2), f"exit code {code} from {argv!r:.2000}"
    if code == 2:
        lines = printed.err.splitlines()
        assert lines and "error: " in lines[-1] and len(lines[-1]) < 8000, f"{printed.err!r:.2000} from {argv!r:.2000}"
    assert "Traceback" not in printed.err


@pytest.fixture
def nothing_starts(monkeypatch):
    """Where a run would begin it ends, and no graphics driver is asked."""
    monkeypatch.setattr(local, "execute", lambda *args: 0)
    monkeypatch.setattr(doctor, "examine", lambda *args: 0)
    monkeypatch.setattr(resolve.gpu, "fault", lambda: "no driver in this test")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.timeout(3600)
def test_the_bench_command_refuses_or_passes(source, nothing_starts, capsys):
    codes = {0: 0, 2: 0}
    for _ in range(INPUTS):
        Path("config.json").write_bytes(source.file(BenchConfig))
        argv = source.command_line(BenchConfig, [["--config", "config.json"]] * 3 + [["--resume", path]
                                   for path in source.paths])
        argv += ["--dry-run"] * (source.rng.random() < 0.7)
        code = cli.main(argv)
        check(code, capsys.readouterr(), argv)
        codes[code] += 1
    assert min(codes.values()) > INPUTS / 20, "inputs that are all refused, or all accepted, try little"
    print(codes)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["train", "sample"])
def test_the_options_of_the_tools_are_refused_or_parsed(source, name, capsys):
    """Parsed only: a training or a sampling that would begin is another matter."""
    module = {"train": train_options, "sample": sample_options}[name]
    model = {"train": train_options.TrainOptions, "sample": sample_options.SampleOptions}[name]
    refused = 0
    for _ in range(INPUTS // 2):
        Path("config.json").write_bytes(source.file(model))
        argv = source.command_line(model, [["--config", "config.json"]])
        argv += ["--model_path", "diffusers"] * (name == "sample" and source.rng.random() < 0.7)
        try:
            options, overrides = module.parse(argv)
            resolved = (train_options.experiment(options, overrides, "cpu") if name == "train"
                        else sample_options.experiment(options, overrides, preset("tiny")))
            assert isinstance(resolved, ExperimentConfig)
        except UsageError as error:
            assert str(error)
            refused += 1
        except SystemExit as stop:
            assert not stop.code, argv
    assert 0 < refused < INPUTS // 2
    capsys.readouterr()


@pytest.mark.timeout(3600)
def test_the_report_command_refuses_or_passes(source, capsys, monkeypatch):
    monkeypatch.setattr(serve, "serve", lambda results, port: None)
    monkeypatch.setattr(report, "write", lambda run: run.path)
    monkeypatch.setattr(index, "write_atomically", lambda path, text: None)
    for _ in range(INPUTS):
        argv = [source.rng.choice([*["build", "index", "serve"] * 60, "--help", *ODD])] * (source.rng.random() < 0.95)
        for _ in range(source.rng.randrange(3)):
            argv.append(source.rng.choice([*source.paths, *ODD, "--port", "--port=80", "-h"]))
        try:
            code = reports_cli.main(argv)
        except SystemExit as stop:
            code = stop.code or 0
        check(code, capsys.readouterr(), argv)


def test_random_settings_reach_every_option():
    """The generator itself: over many draws no option is left out, and right values are among the wrong ones."""
    source = Source(0, ["x"])
    seen = " ".join(word for _ in range(600) for word in source.command_line(BenchConfig)).replace("_", "-")
    assert all("--" + name.replace("_", "-") in seen or f"--no-{name}" in seen for name in BenchConfig.model_fields)
    assert "sample-speed" in seen and isinstance(BenchConfig.model_fields["suite"].annotation,
                                                 types.UnionType | type(typing.Literal["x"]))
