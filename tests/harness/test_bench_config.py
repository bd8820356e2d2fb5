"""Options: where they come from, what they mean, and one clear line for everything that is wrong."""

from __future__ import annotations

import json
import os

import pytest

from harness.options import BenchConfig, experiment, parse, read_config
from impls.errors import UsageError


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"arms": "pytorch", "batch-size": 4, "seed": 7,
                                "experiment": {"train": {"lr": 0.5}, "model": {"dropout": 0.0}}}))
    config, overrides = parse(["--batch_size", "3", "--config", str(file)])
    assert (config.arms, config.batch_size, config.seed, config.epochs) == ("pytorch", 3, 7, None)
    resolved = experiment(config, overrides, "cpu")
    assert (resolved.preset, resolved.seed) == ("tiny", 7)
    assert (resolved.train.lr, resolved.train.batch_size, resolved.model.dropout) == (0.5, 3, 0.0)


@pytest.mark.parametrize("spelling", ["--batch-size", "--batch_size"])
@pytest.mark.parametrize("equals", [True, False])
def test_dashes_underscores_and_equals(spelling, equals):
    argv = [f"{spelling}=5"] if equals else [spelling, "5"]
    assert parse(argv)[0].batch_size == 5


def test_config_path_is_another_name(tmp_path):
    file = tmp_path / "bench.json"
    file.write_text('{"blocks": 9}')
    assert parse([f"--config_path={file}"])[0].blocks == 9


def test_interpreters_may_be_given_for_several_arms():
    config, _ = parse(["--interpreter", "pytorch=/bin/sh", "--interpreter", "jittor=/bin/sh"])
    assert config.interpreter == ("pytorch=/bin/sh", "jittor=/bin/sh")
    swapped, _ = parse(["--arms", "pytorch,jittor:norm=onednn", "--interpreter", "jittor:norm=onednn=/bin/sh"])
    assert swapped.interpreters == {"jittor:norm=onednn": "/bin/sh"}


def test_threads_come_from_the_option_else_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.options.usable_cpus", lambda: 4)
    monkeypatch.setattr("impls.devices.usable_cpus", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert parse([])[0].cpu_threads == 2
    file = tmp_path / "bench.json"
    file.write_text('{"threads": 3}')
    assert parse(["--config", str(file)])[0].cpu_threads == 3
    assert parse(["--config", str(file), "--threads", "4"])[0].cpu_threads == 4


@pytest.mark.parametrize(("device", "name"), [("cpu", "tiny"), ("cuda", "ddpm")])
def test_the_preset_follows_the_device(device, name):
    assert experiment(BenchConfig(), {}, device).preset == name
    assert experiment(BenchConfig(preset="seed"), {}, device).preset == "seed"


@pytest.mark.parametrize(("argv", "words"), [
    (["--suite", "foo"], ["--suite", "foo", "train-speed", "parity"]),
    (["--preset", "huge"], ["--preset", "huge", "ddpm", "seed", "tiny"]),
    (["--dataset", "imagenet"], ["--dataset", "imagenet", "cifar10", "digits"]),
    (["--device", "tpu"], ["--device", "tpu", "cuda"]),
    (["--batch-size", "x"], ["--batch-size", "'x'", "whole number"]),
    (["--batch-size", "0"], ["--batch-size", "at least 1", "0"]),
    (["--time-limit", "soon"], ["--time-limit", "'soon'", "number"]),
    (["--time-limit", "-1"], ["--time-limit", "-1"]),
    (["--blocks", "5"], ["--blocks", "at least 6", "5"]),
    (["--threads", "0"], ["--threads", "from 1 to", "CPUs", "got 0"]),
    (["--threads", "-1"], ["--threads", "from 1 to", "got -1"]),
    (["--threads", "100000"], ["--threads", "from 1 to", "got 100000"]),
    (["--threads", "1,1"], ["--threads", "'1,1'", "whole number"]),
    (["--batch-size"], ["--batch-size", "value"]),
    (["--bogus", "3"], ["--bogus"]),
    (["stray"], ["stray"]),
    (["--arms", "tensorflow"], ["tensorflow", "pytorch", "jittor"]),
    (["--arms", "pytorch:fast"], ["fast", "channels_last"]),
    (["--arms", ","], ["--arms"]),
    (["--arms", "pytorch,,jittor"], ["--arms pytorch,,jittor", "missing"]),
    (["--interpreter", "jittor"], ["--interpreter", "ARM=PYTHON"]),
    (["--interpreter", "jittor=/nonexistent"], ["/nonexistent", "executable"]),
    (["--arms", "pytorch", "--interpreter", "jittor=/bin/sh"], ["jittor", "--arms"]),
    (["--seed", str(2**63)], ["--seed", "2**63"]),
])
def test_a_bad_option_is_one_line_with_the_value_and_the_way_out(argv, words):
    with pytest.raises(UsageError) as fault:
        parse(argv)
    text = str(fault.value)
    assert "\n" not in text and "─" not in text and len(text) < 300
    for word in words:
        assert word in text


@pytest.mark.parametrize(("content", "words"), [
    ("not json", ["not JSON"]),
    ("[1]", ["JSON object"]),
    ('{"suit": "parity"}', ["suit", "unknown key"]),
    ('{"seed": "1"}', ["seed", "'1'"]),
    ('{"threads": 0}', ["--threads", "from 1 to", "got 0"]),
    ('{"pairs": 1}', ["--pairs", "at least 2"]),
    ('{"resume": "x"}', ["resume", "command line"]),
    ('{"arms": "tensorflow"}', ["tensorflow"]),
    ('{"experiment": {"train": {"lrr": 1}}}', ["experiment", "lrr"]),
    ('{"experiment": {"train": {"lr": "fast"}}}', ["experiment", "train.lr", "fast"]),
    ('{"experiment": 3}', ["experiment", "object"]),
    ('{"experiment": {"preset": "huge"}}', ["preset", "huge"]),
])
def test_a_bad_file_is_one_line_with_the_place(tmp_path, content, words):
    file = tmp_path / "bench.json"
    file.write_text(content)
    with pytest.raises(UsageError) as fault:
        read_config(file)
    text = str(fault.value)
    assert "\n" not in text and str(file) in text
    for word in words:
        assert word in text


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_an_unreadable_file(tmp_path):
    file = tmp_path / "bench.json"
    file.write_text("{}")
    file.chmod(0)
    with pytest.raises(UsageError, match="cannot read"):
        read_config(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        parse(["--config", str(tmp_path / "none.json")])


def test_help_ends_with_status_zero(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert not stop.value.code
    assert "--batch-size" in capsys.readouterr().out
