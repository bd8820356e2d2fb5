"""From words to a job: everything is worked out once, however many parts need it."""

from __future__ import annotations

from collections import Counter

import pytest

from harness import cli, options
from harness.suites import training
from impls import registry


@pytest.mark.parametrize(("suite", "recipes"), [("train-speed", 1), ("sample-speed", 1), ("parity", 1), ("quality", 2),
                                                ("all", 2)])
def test_a_dry_run_parses_the_arms_once_and_resolves_every_recipe_once(suite, recipes, monkeypatch, capsys):
    called = Counter()

    def counted(module, name):
        work = getattr(module, name)

        def counting(*args, **more):
            called[name] += 1
            return work(*args, **more)

        monkeypatch.setattr(module, name, counting)

    counted(registry, "specs")
    counted(options, "parse_arms")
    counted(options, "preset")
    assert cli.main(["--suite", suite, "--device", "cpu", "--dry-run"]) == 0
    assert '"experiment"' in capsys.readouterr().out
    # Every parsed arm looks its backend up: there are two.
    assert called == {"parse_arms": 1, "specs": 2, "preset": recipes}


def test_a_part_may_refuse_any_option_not_only_weights(monkeypatch, capsys):
    def refusal(options):
        return None if options.pairs is None else "--pairs: this part has its own"

    monkeypatch.setattr(training.Training, "refusal", refusal)
    words = ["--suite", "train-speed", "--device", "cpu", "--dry-run"]
    assert cli.main([*words, "--pairs", "4"]) == 2
    assert capsys.readouterr().err == "run_bench.py: error: --pairs: this part has its own\n"
    assert cli.main(words) == 0
