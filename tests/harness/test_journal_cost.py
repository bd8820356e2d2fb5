"""What the journal costs a run: every line is understood once, and only a few times is all of it looked at."""

from __future__ import annotations

from collections import Counter

from harness.options import BenchConfig
from harness.record import lines, writer
from harness.record.events import Finding, Resumed, Window
from harness.record.summary import SUMMARISED, summary
from harness.run.runner import Runner

SHORT = {"arms": "scripted,scripted", "pairs": 2, "epochs": 0, "device": "cpu", "preset": "tiny"}


def costs(lab, monkeypatch, blocks):
    """What a run of so many blocks does with its journal, up to its last line."""
    seen = Counter()

    class Told(lines.Told):
        @property
        def events(self):
            seen["whole"] += 1
            return super().events

        def of(self, kinds):
            found = super().of(kinds)
            seen["summaries"] += 1
            seen["windows"] += sum(isinstance(event, Window) for event in found)
            return found

    def decode_line(*words):
        seen["understood"] += 1
        return lines.decode_line(*words)

    monkeypatch.setattr(writer, "Told", Told)
    monkeypatch.setattr(writer, "decode_line", decode_line)
    bench, opening = lab.bench(BenchConfig(**SHORT, blocks=blocks))
    bench.writer.finish(Runner(bench, opening).run())
    bench.writer.close()
    seen["lines"] = len((bench.writer.path / "journal.jsonl").read_bytes().splitlines())
    return seen


def test_four_times_the_blocks_cost_four_times_as_much(lab, monkeypatch):
    few, many = (costs(lab, monkeypatch, blocks) for blocks in (6, 24))
    assert many["lines"] > 3 * few["lines"]
    for seen, blocks in ((few, 6), (many, 24)):
        assert seen["understood"] == seen["lines"]
        assert seen["summaries"] == blocks + 1, "run.json, after every block and at the end"
        assert seen["windows"] == 0
    assert many["whole"] == few["whole"] <= 6


def test_the_summary_of_few_lines_is_that_of_all(lab):
    """Also where lines of one kind came again, and where a resumed run took some back."""
    bench, opening = lab.bench(BenchConfig(**SHORT, blocks=6))
    bench.writer.finish(Runner(bench, opening).run())
    told = lines.Told(bench.writer.run.events)
    other = Finding(severity="info", code="other-run", message="m")
    for event in (Resumed(resumed_utc="", discarded_blocks=[5]), other):
        bench.writer.append(event)
        told.add(event)
    bench.writer.summarise()
    run = bench.writer.run
    bench.writer.close()
    assert (run.path / "run.json").read_text() == summary(run).text()
    wanted = Counter(type(event) for event in run.events if isinstance(event, SUMMARISED))
    assert Counter(map(type, told.of(SUMMARISED))) == wanted
