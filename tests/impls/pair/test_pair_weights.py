"""Which weight is which: names, the user's rule, shapes in order, and both sides of what is left over."""

from __future__ import annotations

import pytest

from impls.errors import UsageError
from impls.pair.weights import matched, told


def test_equal_names_whatever_their_order():
    assert matched({"a": (2,), "b": (2,)}, {"b": (2,), "a": (2,)}) == {"a": "a", "b": "b"}


def test_shapes_in_order_where_both_have_as_many():
    theirs = {"q": (4, 4), "norm": (4,), "k": (4, 4), "same": (2,)}
    ours = {"same": (2,), "query": (4, 4), "scale": (4,), "key": (4, 4)}
    assert matched(theirs, ours) == {"q": "query", "norm": "scale", "k": "key", "same": "same"}


def test_the_users_rule_comes_first_and_may_leave_the_rest():
    theirs, ours = {"q": (4, 4), "k": (4, 4), "v": (4, 4)}, {"one": (4, 4), "two": (4, 4), "v": (4, 4)}
    assert matched(theirs, ours, {"q": "two"}.get) == {"q": "two", "k": "one", "v": "v"}
    assert matched({"a": (2,), "b": (2,)}, {"a": (2,), "b": (2,)}, {"a": "b", "b": "a"}.get) == {"a": "b", "b": "a"}


def test_a_single_number_is_one_element():
    assert matched({"scale": ()}, {"scale": (1,)}) == {"scale": "scale"}


@pytest.mark.parametrize(("theirs", "ours", "names", "words"), [
    ({"a": (2,), "x": (3, 3)}, {"a": (2,), "y": (3, 4)}, None, ["PyTorch alone has x 3x3", "Jittor alone has y 3x4"]),
    ({"a": (2,)}, {"a": (2,), "mask": (5, 5)}, None, ["PyTorch alone has nothing", "Jittor alone has mask 5x5"]),
    ({"p": (2,), "q": (2,)}, {"r": (2,)}, None, ["p 2, q 2", "r 2"]),
    ({"a": (2, 3)}, {"a": (3, 2)}, None, ["shapes differ: a 2x3 against a 3x2"]),
    ({"a": (2,), "b": (2,)}, {"c": (2,), "d": (2,)}, lambda name: "c", ["gave 'c' twice"]),
    ({"a": (2,)}, {"a": (2,)}, lambda name: 3, ["names('a') gave int"]),
    ({f"t{n}": (n,) for n in range(9)}, {f"j{n}": (n, 1) for n in range(9)}, None, ["and 3 more"]),
])
def test_what_is_left_over_names_both_sides(theirs, ours, names, words):
    with pytest.raises(UsageError) as caught:
        matched(theirs, ours, names)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_modules_are_called_as_their_weights_are():
    weights = {"layers.0.ln.weight": "blocks.0.norm.weight", "layers.0.fc.weight": "blocks.0.mlp.fc.weight",
               "stem.gamma": "stem.weight", "head.1.weight": "head.2.weight"}
    modules = ["", "stem", "layers", "layers.0", "layers.0.ln", "layers.0.fc", "layers.0.fc.act", "head", "head.0",
               "head.1", "head.2"]
    found = told(weights, modules)
    assert {name: found[name] for name in modules} == {
        "": "", "stem": "stem", "layers": "blocks", "layers.0.ln": "blocks.0.norm", "layers.0.fc": "blocks.0.mlp.fc",
        "layers.0.fc.act": "blocks.0.mlp.fc.act", "head": "head", "head.0": "head.0", "head.1": "head.2",
        # What its weights do not tell stands where it stands, unless that is another one's place.
        "layers.0": "blocks.0", "head.2": "head.2 (own)"}
    assert found["stem.gamma"] == "stem.weight"


def test_no_two_modules_get_one_name():
    found = told({"a.weight": "both.weight", "b.bias": "both.bias"}, ["", "a", "b"])
    assert len({found[name] for name in ("", "a", "b")}) == 3
