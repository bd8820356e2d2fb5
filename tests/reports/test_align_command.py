"""`python -m reports align`: curves out of other programs' logs, the offset of their steps, the words, the pages."""

from __future__ import annotations

import json
import math
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from impls.errors import UsageError
from reports import __main__ as command
from reports.curves import text_log
from reports.curves.read import read

STEPS = 120


def losses(seed, rate=1.0, steps=STEPS, own=None):
    """A curve that falls, with a batch's own noise at each step; `own` is what this run alone scatters."""
    batches, rng = np.random.default_rng(seed), np.random.default_rng(1000 + seed if own is None else own)
    t = np.arange(1, steps + 1)
    noise = 0.2 * batches.standard_normal(steps) + 0.002 * rng.standard_normal() + 0.002 * rng.standard_normal(steps)
    return np.exp(-0.4 * np.log1p(t / 5) * rate + noise)


def as_jsonl(values):
    rows = [{"kind": "start", "pid": 1}, *({"kind": "step", "step": n, "loss": float(v), "lr": 1e-3}
                                           for n, v in enumerate(values, 1))]
    return "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9, "lo'


def as_lightning(values):
    rows = ["epoch,step,train_loss_step,train_loss_epoch,val_loss"]
    for n, v in enumerate(values, 1):
        rows.append(f"{n // 40},{n},{float(v)!r},,")
        if n % 40 == 0:
            rows.append(f"{n // 40},{n},,0.5,0.7")
    return "\n".join(rows)


def as_tutorial(values):
    """As PyTorch's and Jittor's MNIST examples print, 40 batches an epoch, from 0."""
    return "Loading\n" + "\n".join(f"Train Epoch: {n // 40} [{n % 40}/40 ({100 * (n % 40) // 40}%)]\tLoss: {float(v)!r}"
                                   for n, v in enumerate(values, 1)) + "\nTest set: Average loss: 0.1, Accuracy: 9/10"


def as_bar(values):
    """As tqdm rewrites its line."""
    return "".join(f"\rEpoch {n // 40}:  {100 * (n % 40) // 40}%|###   | {n % 40}/40 [00:12<00:15, 28.1it/s, "
                   f"loss={float(v)!r}, lr=0.001]" for n, v in enumerate(values, 1))


def as_print(values):
    return "\n".join(f"\x1b[32m2024-05-01 10:00:00\x1b[0m INFO iter: {n}/1000, lr: 1e-4, loss: {float(v)!r}, eta: 3:00"
                     for n, v in enumerate(values, 1))


def record(data):
    return struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4


def field(number, kind, value):
    key = bytes([number << 3 | kind])
    return key + (bytes([len(value)]) + value if kind == 2 else value)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def as_events(values):
    """Event files as both of TensorBoard's writers make them: simple_value, and a tensor of one float."""
    out = record(field(1, 1, struct.pack("<d", 0.0)) + field(3, 2, b"brain.Event:2"))
    for n, v in enumerate(values, 1):
        number = struct.pack("<f", v)
        of = field(2, 5, number) if n % 2 else field(8, 2, field(1, 0, b"\1") + field(5, 2, number))
        more = field(1, 2, field(1, 2, b"val/loss") + field(2, 5, number))
        one = field(1, 2, field(1, 2, b"train/loss") + of)
        out += record(field(1, 1, struct.pack("<d", 0.0)) + field(2, 0, varint(n)) + field(5, 2, one + more))
    return out + record(b"x" * 50)[:30]


SHAPES = {"log.jsonl": as_jsonl, "metrics.csv": as_lightning, "mnist.log": as_tutorial, "bar.txt": as_bar,
          "print.out": as_print, "events.out.tfevents.1": as_events}


@pytest.mark.parametrize("name", SHAPES)
def test_other_programs_logs_are_read(name, tmp_path):
    values = losses(0)
    text = SHAPES[name](values)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    log = read(tmp_path / name)
    assert log.curve.steps.tolist() == list(range(1, STEPS + 1))
    np.testing.assert_allclose(log.curve.losses, values, rtol=1e-6)
    if name in ("log.jsonl", "metrics.csv", "events.out.tfevents.1"):
        assert read(tmp_path).curve.losses.tolist() == log.curve.losses.tolist()


@pytest.mark.parametrize(("line", "step", "loss"), [
    ("step 300 loss 0.25", 300, 0.25), ("Step: 7 | Loss: 1e-3 | lr 0.1", 7, 1e-3),
    ("iteration=12 train_loss=nan", 12, math.nan),
    ("Epoch [1/10], Step [100/600], Loss: 0.5", 700, 0.5),
    ("[Epoch 2/9] [Batch 3/100] [D loss: 0.5] [G loss: 7]", 203, 0.5),
    ("epoch 3, train loss 0.125, val loss 3", 3, 0.125), ("global_step 5 training loss: -0.5", 5, -0.5),
    ("Train Epoch: 1 [1280/60000 (2%)]\tLoss: 2.3", 61280, 2.3)])
def test_common_lines_are_understood(line, step, loss):
    assert text_log.points([line], None, "x") == [(step, pytest.approx(loss, nan_ok=True))]


def test_a_pattern_of_ones_own_is_followed_and_never_waited_for(monkeypatch, tmp_path):
    assert text_log.points(["n3=0.5!"], r"n(?P<step>\d)=(?P<loss>[\d.]+)!", "x") == [(3, 0.5)]
    for pattern, words in (("(", "no regular expression"), (r"(?P<step>\d+)", "no group loss")):
        with pytest.raises(UsageError, match=words):
            text_log.points([], pattern, "x")
    monkeypatch.setattr(text_log, "WITHIN_S", 0.1)
    with pytest.raises(UsageError, match="takes longer than"):
        text_log.points(["1" * 64 + "!"], r"(?P<step>(\d+)+)=(?P<loss>\d)", "x")


@pytest.mark.parametrize("line", ["loss " * 4000, "epoch " + "1 " * 2000, "9%|" * 2000, "step " + "9" * 3999,
                                  "epoch 1 " + "[" * 3000 + "3/4 " * 500])
def test_the_common_shapes_take_no_time_on_anything(line, monkeypatch):
    """The limit of a pattern of one's own, laid around those of ours."""
    monkeypatch.setattr(text_log, "WITHIN_S", 2.0)
    with text_log._limited("too long"):
        text_log.points([line], None, "x")


def test_damaged_event_files_are_one_line(tmp_path):
    rng = np.random.default_rng(0)
    whole = as_events(losses(0, steps=20))
    for number in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 5):
            data[place] = rng.integers(256)
        path = tmp_path / f"{number}.tfevents"
        path.write_bytes(data if number else b"\xff" * 40)
        try:
            assert read(path).curve.steps.size <= 40
        except UsageError as error:
            assert "\n" not in str(error)


def logs(folder, name, seeds, shift=0, **options):
    paths = []
    for seed in seeds:
        path = folder / f"{name}{seed}.jsonl"
        values = losses(seed, **options, own=None if name == "a" else 5000 + seed)
        rows = ({"step": n + shift, "loss": float(v)} for n, v in enumerate(values, 1))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(str(path))
    return paths


def aligned(capsys, tmp_path, *words):
    code = command.main(["align", *words, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(("more", "word"), [
    ({}, "same"), ({"shift": -1}, "same"), ({"rate": 1.1}, "differs from step ")])
def test_from_logs_to_pages(more, word, tmp_path, capsys):
    a, b = logs(tmp_path, "a", range(4)), logs(tmp_path, "b", range(4), **more)
    code, out, err = aligned(capsys, tmp_path, *a, "--against", *b)
    assert (code, err) == (0, "") and out.startswith(word) and out.splitlines()[-1].endswith("align.html")
    assert "judged pair by pair" in out and ("steps of B are counted +1" in out) == ("shift" in more)
    page = (tmp_path / "out" / "align.html").read_text()
    markdown = (tmp_path / "out" / "align.md").read_text()
    for text in (page, markdown.replace("\\", "")):
        assert "4 runs of A and 4 of B" in text and "Judged pair by pair" in text and "Bonferroni" in text
        assert ("A and B differ from step" in text) == (word != "same")
    for name in ("curves", "difference"):
        assert f"](figures/{name}.svg)" in markdown
        ET.fromstring((tmp_path / "out" / "figures" / f"{name}.svg").read_text())
    assert page.count("<svg xmlns") == 4


def test_one_run_of_each_tells_nothing_and_says_how_many_would(tmp_path, capsys):
    (a,), (b,) = logs(tmp_path, "a", [0]), logs(tmp_path, "b", [1], rate=1.05)
    code, out, _ = aligned(capsys, tmp_path, a, b)
    assert code == 0 and out.startswith("cannot be told: ") and "3 seeds of each recipe would tell" in out
    assert "perturbed twin" in (tmp_path / "out" / "align.md").read_text()


def test_a_recipe_that_diverges_differs(tmp_path, capsys):
    a, b = logs(tmp_path, "a", range(4)), logs(tmp_path, "b", range(4))
    for path in b:
        lines = Path(path).read_text().splitlines()
        lines[100:] = [json.dumps({"step": n, "loss": "nan"}) for n in range(101, STEPS + 1)]
        Path(path).write_text("\n".join(lines))
    _, out, _ = aligned(capsys, tmp_path, *a, "--against", *b)
    assert out.startswith("differs from step 61")


@pytest.mark.parametrize(("words", "told"), [
    (["{a}"], "1 logs: give two"), (["{a}", "none.jsonl"], "none.jsonl: cannot be read: No such file"),
    (["{a}", "{late}"], "only 0 steps in common"), (["{a}", "{empty}"], "no step with a loss"),
    (["{a}", "{other}"], "give --column, one of step, accuracy"), (["{a}", "{a}", "--column", "x"], "no column x"),
    (["{a}", "{a}", "--margin", "0"], "--margin"), (["{a}", "{a}", "--pattern", "("], "no regular expression"),
    (["{a}", "{a}", "{a}"], "3 logs: give two")])
def test_bad_input_is_one_line(words, told, tmp_path, capsys):
    (a,), (late,) = logs(tmp_path, "a", [0]), logs(tmp_path, "b", [0], shift=9000)
    (tmp_path / "empty.log").write_text("nothing\n")
    (tmp_path / "other.jsonl").write_text('{"step": 1, "accuracy": 0.5}\n')
    names = {"a": a, "late": late, "empty": tmp_path / "empty.log", "other": tmp_path / "other.jsonl"}
    code, out, err = aligned(capsys, tmp_path, *(word.format(**names) for word in words))
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(("name", "encoding", "text"), [
    ("a.jsonl", "utf-8-sig", as_jsonl), ("a.csv", "utf-8-sig", as_lightning), ("a.log", "utf-16", as_print)])
def test_files_that_windows_wrote_are_read(tmp_path, name, encoding, text):
    values = losses(1)
    (tmp_path / name).write_text(text(values), encoding=encoding)
    assert np.allclose(read(tmp_path / name).curve.losses, values)


def test_a_cell_too_large_for_csv_is_a_line_not_a_traceback(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("step,loss,note\n1,0.5," + "x" * 200_000 + "\n2,0.4,\n")
    with pytest.raises(UsageError, match="a.csv: cannot be read as CSV .*field"):
        read(file)


@pytest.mark.parametrize(("name", "row"), [
    ("a.csv", "{epoch},{batch},{loss}"), ("a.log", "epoch {epoch} step {batch} loss {loss}"),
    ("a.jsonl", '{{"epoch": {epoch}, "step": {batch}, "loss": {loss}}}')])
def test_steps_that_begin_anew_with_each_epoch_are_refused(tmp_path, name, row):
    rows = [row.format(epoch=n // 40, batch=n % 40, loss=v) for n, v in enumerate(losses(1))]
    head = ["epoch,batch,loss"] if name == "a.csv" else []
    (tmp_path / name).write_text("\n".join(head + rows))
    with pytest.raises(UsageError, match="its steps begin anew in epoch 1"):
        read(tmp_path / name)
    # One that goes on from a checkpoint falls back within an epoch.
    rows = [row.format(epoch=n // 40, batch=n, loss=v) for n, v in enumerate(losses(1))]
    (tmp_path / name).write_text("\n".join(head + rows[:70] + rows[50:]))
    assert read(tmp_path / name).curve.steps.size == STEPS


def bars(values, length=40):
    """As tqdm's, one an epoch, which say nothing of it."""
    return "".join(f"\r{100 * n // length}%|###   | {n}/{length} [00:12<00:15, 28.1it/s, loss={float(v)!r}]"
                   for n, v in ((k % length + 1, v) for k, v in enumerate(values)))


def test_bars_without_an_epoch_count_on_behind_a_full_one_alone(tmp_path):
    values = losses(1)
    (tmp_path / "whole.txt").write_text(bars(values))
    log = read(tmp_path / "whole.txt")
    assert log.curve.steps.tolist() == list(range(1, STEPS + 1)) and np.allclose(log.curve.losses, values)
    assert log.remarks == ()
    # Killed in its first epoch and begun anew: what was done twice counts once, and that is said.
    (tmp_path / "again.txt").write_text(bars(values[:10]) + bars(values))
    log = read(tmp_path / "again.txt")
    assert log.curve.steps.size == STEPS and "fall back 1 time, first to 1," in log.remarks[0]
    # Those of held-out data are of another length.
    (tmp_path / "other.txt").write_text(bars(values[:40]) + bars(values[:7], 7) + bars(values[40:80]))
    assert max(read(tmp_path / "other.txt").curve.steps) == 40


def test_rows_without_a_number_are_told_and_empty_cells_are_none(tmp_path, capsys):
    rows = ["step,loss,lr", *(f"{n},{float(v)!r},1e-3" for n, v in enumerate(losses(1), 1))]
    rows[3], rows[7], rows[9] = "3,n/a,1e-3", "x,0.5,1e-3", "9,,1e-3"
    file, other = tmp_path / "a.csv", tmp_path / "b.jsonl"
    file.write_text("\n" + "\r\n".join(rows))
    log = read(file)
    assert log.curve.steps.size == STEPS - 3
    assert log.remarks == ("2 rows left out, the first: line 5 has 'n/a' for loss",)
    other.write_text('{"kind": "start"}\n{"step": 1, "loss": [0.5]}\n' + as_jsonl(losses(2)))
    _, out, _ = aligned(capsys, tmp_path, str(file), str(other))
    assert f"{other}: 1 row left out, the first: line 2 has '[0.5]' for loss" in out
    assert "2 rows left out, the first: line 5" in (tmp_path / "out" / "align.md").read_text().replace("\\", "")
    other.write_text(as_jsonl(losses(2)) + '\n{"loss": 0.5}\n')
    assert read(other).remarks[0].endswith(" has nothing for step")
    file.write_text("step,loss\n1,a\n2,b\n")
    with pytest.raises(UsageError, match="no step with a loss in this CSV file: 2 rows left out, the first: line 2 "):
        read(file)


def test_a_lines_loss_of_held_out_data_is_not_taken(tmp_path):
    file = tmp_path / "a.log"
    file.write_text("\n".join(f"step {n} val_loss: 9.0, loss: {n}.5\nstep {n} validation loss 8.0" for n in range(20)))
    assert read(file).curve.losses.tolist() == [n + 0.5 for n in range(20)]


def test_a_run_that_is_given_twice_shows_no_chance(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"{name}.jsonl").write_text(as_jsonl(losses(seed)))
    a, b, c = (str(tmp_path / f"{name}.jsonl") for name in "abc")
    assert command.main(["align", a, a, "--against", b, c, "--out", str(tmp_path / "out")]) == 2
    assert "the same curve as" in capsys.readouterr().err and not (tmp_path / "out").exists()
    # Of two recipes the curves may well be the same.
    assert command.main(["align", a, b, "--against", a, b, "--out", str(tmp_path / "out")]) == 0
