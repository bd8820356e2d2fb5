"""A pair's file where it is executed: batches, settings, and whose fault it is when a function fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from impls.errors import UsageError
from impls.pair.loaded import BATCHES, Pair, PairFailedError
from impls.pair.rule import Rule, rule_of
from impls.pair.weights import matched

ROOT = Path(__file__).parents[3]
FILE = """
import numpy as np
def torch_model(): return 1
def jittor_model(): return 1
def batch(rng): return {"x": rng.standard_normal((6, 2)), "y": rng.integers(0, 9, 6)}
def torch_loss(model, batch): return model
def jittor_loss(model, batch): return model
"""


@pytest.fixture
def pair(tmp_path, monkeypatch):
    def made(more: str = "", text: str = FILE) -> Pair:
        path = tmp_path / "mine.py"
        path.write_text(text + more)
        return Pair(path, "torch")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    return made


def test_batches_are_the_same_in_every_worker_and_float32(pair):
    one, other = pair().batches(3), pair().batches(3)
    assert len(one) == BATCHES and one[0]["x"].dtype == np.float32 and one[0]["y"].dtype == np.int64
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)
    assert not np.array_equal(one[0]["x"], one[1]["x"])
    assert not np.array_equal(one[0]["x"], pair().batches(4)[0]["x"])


def test_every_batch_is_its_own_in_numbers_that_both_frameworks_know(pair):
    text = FILE.replace('return {"x": rng.standard_normal((6, 2)), "y": rng.integers(0, 9, 6)}',
                        'KEPT[:] = rng.standard_normal(3); return {"x": KEPT, "y": KEPT.astype(np.longdouble), '
                        '"n": np.array([2**31 - 1, -2**31], ">i8"), "empty": np.empty(0, np.int64)}')
    one, other, *_ = pair(text="import numpy as np\nKEPT = np.zeros(3, '>f4')\n" + text).batches(0)
    assert not np.array_equal(one["x"], other["x"]) and one["x"].dtype == one["y"].dtype == np.float32
    assert one["n"].dtype.isnative and one["x"].dtype.isnative and one["n"].tolist() == [2**31 - 1, -(2**31)]


def test_images_are_counted_by_the_file_or_by_the_first_array(pair):
    assert pair().images(pair().batches(0)[0]) == 6
    assert pair("images = 24").images(pair().batches(0)[0]) == 24


@pytest.mark.parametrize(("value", "words"), [
    ("[1]", "batch() gave list"), ("{}", "batch() gave an empty dict"), ("{'x': [1]}", "batch()['x'] is list"),
    ("{'x': np.array([object()])}", "batch()['x'] holds object"), ("{'x': np.array(['a'])}", "batch()['x'] holds <U1"),
    ("{'x': np.array([np.nan])}", "batch()['x'] holds NaN"),
    ("{'x': np.array([3, 2**31])}", "batch()['x'] holds whole numbers beyond 32 bits"),
    ("{'x': np.array([2**63], np.uint64)}", "batch()['x'] holds whole numbers beyond 32 bits"),
])
def test_a_batch_that_cannot_cross_is_one_line(pair, value, words):
    with pytest.raises(UsageError) as caught:
        pair(text=FILE.replace('{"x": rng.standard_normal((6, 2)), "y": rng.integers(0, 9, 6)}', value)).batches(0)
    assert "mine.py: " + words in str(caught.value)


@pytest.mark.parametrize(("more", "words"), [
    ("optimizer = 'Adam'", "optimizer: a dict such as"), ("images = 0", "images: a whole number"),
    ("optimizer = {'rate': 1}", "optimizer: unknown key 'rate' (known: name, lr"),
    ("optimizer = {'name': 'RMSprop'}", "optimizer: name"), ("optimizer = {'lr': -1}", "optimizer: lr"),
    ("optimizer = {'name': 'SGD', 'nesterov': True}", "optimizer: settings: nesterov needs a momentum"),
])
def test_wrong_settings_are_one_line(pair, more, words):
    with pytest.raises(UsageError) as caught:
        pair(more)
    assert "mine.py: " + words in str(caught.value)


def test_numbers_may_be_written_as_people_write_them():
    assert rule_of({"name": "SGD", "lr": 1, "momentum": 0.9}, "x") == Rule(name="SGD", lr=1.0, momentum=0.9)
    assert rule_of({"betas": [0.5, 0.9]}, "x").betas == (0.5, 0.9)
    assert rule_of(None, "x") == Rule()


@pytest.mark.parametrize(("body", "words"), [
    ("raise ValueError('no such layer')", "mine.py: torch_model() failed: ValueError: no such layer"),
    ("import sys; sys.exit(0)", "mine.py: torch_model() failed: SystemExit: 0"),
    ("import jittor", "mine.py: torch_model() failed: ImportError: jittor is imported in the worker of torch"),
    ("import jittor.nn as nn", "ImportError: jittor"),
])
def test_a_function_that_fails_is_named_with_its_file(pair, body, words):
    with pytest.raises(PairFailedError) as caught:
        pair(text=FILE.replace("def torch_model(): return 1", f"def torch_model():\n    {body}")).model()
    assert words in str(caught.value)


def test_the_top_of_a_file_that_fails_is_named(pair):
    with pytest.raises(PairFailedError, match=r"mine\.py: its top failed: ZeroDivisionError"):
        pair("A = 1 / 0")


def test_outputs_are_flattened_and_else_the_loss(pair):
    assert pair().outputs(7, {}, int) == [7]
    assert pair("def outputs(model, batch): return {'a': (1, [2, None]), 'b': 3}").outputs(7, {}, int) == [1, 2, 3]


@pytest.mark.parametrize(("more", "words"), [
    ("def outputs(model, batch): model", "mine.py: outputs() gave NoneType: return tensors of torch"),
    ("def outputs(model, batch): return []", "mine.py: outputs() gave list"),
    ("def outputs(model, batch): return {'a': model, 'b': [0.5]}", "mine.py: outputs() gave float"),
    ("def torch_loss(model, batch): return 'x'", "mine.py: torch_loss() gave str"),
])
def test_outputs_that_are_no_tensors_are_one_line(pair, more, words):
    with pytest.raises(UsageError) as caught:
        pair(more).outputs(7, {}, int)
    assert words in str(caught.value)


@pytest.mark.parametrize("framework", ["torch", "jittor"])
def test_a_rule_for_names_is_not_asked_where_the_names_are_pytorch_s_own(pair, framework):
    """Names that are one off, as between containers of unlike lengths, would turn PyTorch's own weights round."""
    made = Pair(pair("def names(torch_name): return {'2.w': '1.w', '1.w': '0.w'}[torch_name]").path, framework)
    shapes = {"1.w": (4, 4), "2.w": (4, 4)}
    ours, other = {"torch": ("12", shapes), "jittor": ("01", {"0.w": (4, 4), "1.w": (4, 4)})}[framework]
    assert matched(shapes, other, made.names) == {"1.w": f"{ours[0]}.w", "2.w": f"{ours[1]}.w"}


def test_a_folder_gets_no_compiled_files(pair, tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("VALUE = 3")
    made = pair("import helper_of_mine\ndef outputs(model, batch): return helper_of_mine.VALUE")
    assert made.outputs(1, {}, int) == [3]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py", "helper_of_mine.py"}


def init(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness.pair", "init", *words], check=False, cwd=ROOT,
                          capture_output=True, text=True)


def test_init_writes_a_file_once(tmp_path):
    path = tmp_path / "mine.py"
    done = init(str(path))
    assert done.returncode == 0 and "--pair" in done.stdout and "--pair mine.py" in path.read_text()
    path.write_text("mine")
    again = init(str(path))
    assert again.returncode == 2 and "is there already" in again.stderr and path.read_text() == "mine"


@pytest.mark.parametrize(("name", "words"), [("mine.txt", "ending .py"), ("no/mine.py", "No such file"),
                                             ("file/mine.py", "Not a directory")])
def test_init_where_nothing_can_be_written_is_one_line(tmp_path, name, words):
    (tmp_path / "file").write_text("")
    done = init(str(tmp_path / name))
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
