"""The pieces of a command line before it is parsed."""

from __future__ import annotations

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
