"""Gradients that differ because rounding takes a number to the other side of a kink: no alarm; anything else is one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from harness.suites.align.compare import Traces
from harness.suites.align.run import lines
from impls.recipe.trace import Call
from impls.store.traces import TraceFolder
from messages import speaking
from reports.suites.align import chapter, tree

COMMON = {"part": "align", "arm_a": "A", "arm_b": "B", "reference": "A", "batch_size": 2}
CALLS = [Call(0, "", "Net", 0, None), Call(1, "block", "Block", 0, 0), Call(2, "block.early", "Conv2d", 0, 1),
         Call(3, "block.norm", "BatchNorm2d", 0, 1), Call(4, "block.late", "Conv2d", 0, 1)]
EARLY, NORM, LATE, OUT = "block.early", "block.norm", "block.late", "gradient of output 0"
RNG = np.random.default_rng(0)
X, G, OTHER = (RNG.standard_normal((2, 4, 10, 10)).astype(np.float32) for _ in range(3))
AT, BESIDE = (1, 2, 3, 4), (1, 2, 3, 5)


def relu(x):
    return np.maximum(x, 0)


def changed(array, **values):
    """A copy with other numbers at `at` and `beside`."""
    made = array.copy()
    for place, value in values.items():
        made[{"at": AT, "beside": BESIDE}[place]] = value
    return made


def trace(path, x, g, function=relu, **changes):
    """A block whose own code has a function between a norm and a convolution; `changes` are arrays by group."""
    made = TraceFolder(path)
    made.finish(CALLS)
    groups = {"loss": {"loss": np.array(1.0)}, "losses": {"losses": np.ones(3)},
              "gradients": {f"{name}.weight": G[0] for name in (EARLY, LATE)},
              "step": {f"{what} {name}.weight": G[0] if what == "weight" else np.array(1.0)
                       for name in (EARLY, LATE) for what in ("weight", "size of")}}
    for call in CALLS:
        kind = call.name.rpartition(".")[2]
        given, out = {"norm": (X, x), "late": (function(x), OTHER)}.get(kind, (X, OTHER))
        groups |= {f"run {call.number}": {"input 0": given}, f"out {call.number}": {"output 0": out},
                   f"back {call.number}": {OUT: g if kind == "norm" else OTHER},
                   f"fed {call.number}": {"output 0": OTHER, "gradient of input 0": OTHER}}
    for group, arrays in changes.items():
        groups[group.replace("_", " ")] |= arrays
    for group, arrays in groups.items():
        made(group, arrays)
    return made


def held(tmp_path, mine, theirs, **options):
    found = lines(Traces(trace(tmp_path / "a", *mine, **options), theirs, ("float32", "float32")), COMMON)
    return found[:-1], found[-1]


def at_zero(tmp_path, **changes):
    """A number that is on the two sides of a ReLU, and what it is seen by."""
    return held(tmp_path, (changed(X, at=4e-8), changed(G, at=0.01)),
                trace(tmp_path / "b", changed(X, at=-3e-8), changed(G, at=0.0), **changes))[1]


def test_a_number_on_both_sides_of_a_kink_is_no_alarm_and_is_said(tmp_path):
    found = at_zero(tmp_path)
    assert found.word == "agree" and not found.notes
    assert found.sentence({"A": "one", "B": "two"}) == (
        "align: one and two: all 5 compared layers agree, forward, backward, and in training; the gradient of what "
        "block.norm (BatchNorm2d) gives differs at 1 of 800 elements, at a kink, as of ReLU or max-pool: rounding "
        "takes a number there to its other side; all fed modules agree")


def test_page_and_terminal_say_it_in_the_readers_language(tmp_path):
    found = at_zero(tmp_path)
    seen = SimpleNamespace(label={"A": "one", "B": "two"}.get, run=SimpleNamespace(of=lambda kind: []))
    said = chapter.card(seen, found).facts[-1]
    assert said.startswith("No fault: the gradient of what block.norm ") and said.endswith("; all fed modules agree.")
    assert said in [block.text for block in tree.section(seen, found, "layers", "").blocks if hasattr(block, "text")]
    many = found.model_copy(update={"kinks": found.kinks * 5})
    assert "; 2 more gradients like it; all fed modules agree" in many.sentence({})
    with speaking("zh"):
        assert found.sentence({"A": "one", "B": "two"}).endswith(
            "block.norm (BatchNorm2d) 的输出的梯度在 800 个元素中的 1 个上不同，位于不可导点，如 ReLU 或 max-pool："
            "舍入使那里的数落到另一侧；馈入时所有模块都一致")


@pytest.mark.parametrize(("function", "mine", "theirs", "seen"), [
    # The sum of a residual block, which no module gives: what its ReLU makes of it shows the kink.
    (lambda x: relu(x - 1), {"at": 1 + 2e-7}, {"at": 1}, True),
    (lambda x: np.clip(x, 0, 1), {"at": 1 + 2e-7, "beside": 2}, {"at": 1 - 2e-7, "beside": 2}, True),
    # Both have the same number, and of it two gradients: no rounding makes them.
    (relu, {"at": 0}, {"at": 0}, False),
    (relu, {"at": 0.5}, {"at": 0.5 + 1e-7}, False),
    # Smooth, so that nothing shows where its gradient may change.
    (np.tanh, {"at": 0.5}, {"at": 0.5 + 1e-7}, False)])
def test_each_element_must_be_seen_at_a_kink(tmp_path, function, mine, theirs, seen):
    _, found = held(tmp_path, (changed(X, **mine), changed(G, at=0.01)),
                    trace(tmp_path / "b", changed(X, **theirs), changed(G, at=0.0), function=function),
                    function=function)
    assert found.word == ("agree" if seen else "differ"), found.kinks
    assert len(found.kinks) == seen
    if not seen:
        assert found.culprit.where == "block (Block): its own code behind block.norm"


def test_a_mask_is_no_place_to_see_a_kink_in(tmp_path):
    """It has no sign, and rounding does not change it."""
    mask = {"run_4": {"input 1": X > 0}, "function": np.tanh}
    _, found = held(tmp_path, (X, changed(G, at=0.01)), trace(tmp_path / "b", X, changed(G, at=0.0), **mask), **mask)
    assert found.word == "differ" and not found.kinks


@pytest.mark.parametrize(("x", "g", "word"), [
    ({"at": 2 - 2e-7, "beside": 2}, {"at": 0.0, "beside": 0.02}, "agree"),
    # It goes nowhere else, or to a number that is not as large.
    ({"at": 2 - 2e-7, "beside": 2}, {"at": 0.0, "beside": 0.0}, "differ"),
    ({"at": 2, "beside": 1.5}, {"at": 0.0, "beside": 0.02}, "differ")])
def test_a_maximum_that_takes_the_other_of_two_like_numbers_is_no_alarm(tmp_path, x, g, word):
    mine = changed(X, **{**x, "at": 2, **({"beside": 2 - 2e-7} if word == "agree" else {})})
    _, found = held(tmp_path, (mine, changed(G, at=0.02, beside=0.0)),
                    trace(tmp_path / "b", changed(X, **x), changed(G, **g)))
    assert found.word == word, found.culprit


def test_a_dense_difference_is_an_alarm_wherever_it_comes_from(tmp_path):
    """Every number on both sides of a kink: rounding alone does not do that."""
    tiny = np.float32(1e-8) * np.sign(X)
    _, found = held(tmp_path, (changed(tiny, at=3), G), trace(
        tmp_path / "b", changed(-tiny, at=3), G + np.float32(0.01)))
    assert found.word == "differ" and found.culprit.place == OUT and not found.kinks


def test_a_dense_difference_beside_a_kink_is_an_alarm(tmp_path):
    _, found = held(tmp_path, (changed(X, at=4e-8), changed(G, at=0.01)), trace(
        tmp_path / "b", changed(X, at=-3e-8), changed(G * np.float32(1.001), at=0.0)))
    assert found.word == "differ" and not found.kinks


def test_a_module_that_disagrees_when_fed_is_an_alarm(tmp_path):
    found = at_zero(tmp_path, fed_3={"gradient of input 0": changed(OTHER, at=7)})
    assert found.word == "differ" and found.culprit.where == "block.norm (BatchNorm2d)"
    assert "all fed modules agree" not in found.sentence({"A": "one", "B": "two"})


@pytest.mark.parametrize(("off", "word"), [(1e-3, "agree"), (0.1, "differ")])
@pytest.mark.parametrize(("group", "name", "where"), [
    ("fed_1", "gradient of input 0", "block (Block): its own code, beside the modules in it"),
    ("fed_0", "gradient of input 0", "the network (Net): its own code, beside the modules in it"),
    ("back_2", OUT, "block (Block): its own code behind block.early"),
    ("gradients", f"{EARLY}.weight", f"the gradient of the weight {EARLY}.weight")])
def test_what_holds_a_kink_or_lies_behind_it_may_differ_by_a_multiple_of_its_share(tmp_path, group, name, where, off,
                                                                                  word):
    array = G[0] if group == "gradients" else OTHER
    found = at_zero(tmp_path, **{group: {name: array * np.float32(1 + off)}})
    assert found.word == word and (word == "agree" or found.culprit.where == where), found.culprit


def test_what_lies_before_a_kink_may_not(tmp_path):
    found = at_zero(tmp_path, back_4={OUT: OTHER * np.float32(1.001)})
    assert found.word == "differ" and found.culprit.where == "block (Block): its own code behind block.late"


@pytest.mark.parametrize(("changes", "word"), [
    ({f"weight {EARLY}.weight": 1.001}, "agree"),
    ({f"weight {EARLY}.weight": 2, f"weight {LATE}.weight": 2}, "differ")])
def test_a_step_is_told_by_the_weights_that_are_not_behind_it(tmp_path, changes, word):
    found = at_zero(tmp_path, gradients={f"{EARLY}.weight": G[0] * np.float32(1.001)},
                    step={name: G[0] * np.float32(factor) for name, factor in changes.items()})
    assert found.word == word and (word == "agree" or found.culprit.stage == "steps"), found.culprit


def test_a_large_gradient_that_is_not_there_is_behind_no_kink(tmp_path):
    """However large the kink's own share is."""
    _, found = held(tmp_path, (changed(X, at=4e-8), changed(G, at=90)), trace(
        tmp_path / "b", changed(X, at=-3e-8), changed(G, at=0.0), back_2={OUT: 0 * OTHER}))
    assert found.word == "differ" and found.culprit.where == "block (Block): its own code behind block.early"


def test_a_kink_of_each_branch_is_found(tmp_path):
    """Another one behind the first that is too large to come of it is seen by its own numbers."""
    _, found = held(tmp_path, (changed(X, at=4e-8), changed(G, at=0.01)), trace(
        tmp_path / "b", changed(X, at=-3e-8), changed(G, at=0.0), out_2={"output 0": changed(OTHER, at=1e-8)},
        back_2={OUT: changed(OTHER, at=30)}), out_2={"output 0": changed(OTHER, at=-1e-8)},
        back_2={OUT: changed(OTHER, at=0.0)})
    assert found.word == "agree" and len(found.kinks) == 2
