"""The pieces of a command line before it is parsed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.options import BenchConfig
from harness.options import parse as parse_bench
from impls.tools.cli import alias, option
from impls.tools.train import options as train_options


@pytest.mark.parametrize(("words", "found"), [
    ([], None), (["--config"], None), (["--config", "a"], "a"), (["--config=a", "--config", "b"], "b"),
    (["--x", "--config=a"], "a")])
def test_the_last_config_is_found_before_anything_is_parsed(words, found):
    assert option(words, "--config") == found


def test_a_bare_command_line_takes_every_default():
    config, overrides = parse_bench([])
    assert config == BenchConfig() and overrides == {}
    options, _ = train_options.parse([])
    assert options.num_epochs == 500


def test_underscores_are_dashes_in_names_and_stay_in_values():
    assert alias("--batch_size=a_b") == "--batch-size=a_b"
    assert alias("--config_path=x") == "--config=x"
    assert alias("a_b") == "a_b"


@pytest.mark.parametrize("wrong", [{}, {"RANK": "zero", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}])
def test_half_a_launcher_is_one_line_and_no_traceback(wrong):
    """What is wrong with the variables is said once: the end of the process does not trip over them again."""
    told = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", **wrong}
    done = subprocess.run([sys.executable, "-m", "impls.train", "--backend", "pytorch"], check=False, text=True,
                          capture_output=True, env=told)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "torchrun started this process, but RANK is" in done.stderr
