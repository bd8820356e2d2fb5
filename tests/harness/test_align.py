"""Suite `align` with a scripted backend: the culprit is recorded, told and shown; what cannot be traced is said."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from harness import cli
from harness.record.events import AlignedLayer, Alignment, Case, Culprit
from harness.stats.arrays import error
from harness.suites.align import known
from harness.suites.align.compare import Traces
from harness.suites.align.run import lines
from impls.recipe.trace import KEPT, Call, exchanged, kept, leaves, perturbed
from impls.store.traces import TraceFolder
from reports import report, terminal
from reports.suites.align import tree

COMMON = {"part": "align", "arm_a": "A", "arm_b": "B", "reference": "A", "batch_size": 2}


def test_the_first_layer_that_differs_is_recorded_told_and_shown(lab):
    end, run = lab.run(suite="align", arms="scripted,scripted:wrong")
    (found,) = run.of(Alignment)
    assert end.exit_code == 0 and found.word == "differ" and found.twins == ["double", "perturbed"]
    assert found.culprit == Culprit(stage="forward", number=2, name="two", kind="Triple", where="two (Triple)",
                                    place="output 0")
    assert [(one.name, one.within) for one in run.of(AlignedLayer)] == [("", None), ("one", 0), ("two", 0)]
    said = "align: scripted and scripted:wrong part first in two (Triple) (forward: output 0)"
    assert said in terminal.lines(run)
    page = report.build(run.path).with_suffix(".md").read_text()
    assert "**scripted and scripted:wrong part first in two (Triple).**" in page
    assert "   two (Triple)  0.010 <- FIRST DIFFERENCE (output 0)" in page and "   one (Double)  0 agrees" in page


def test_a_list_of_modules_keeps_its_name_in_the_tree(lab):
    """Two blocks that are both the first of their list are told apart, though no list is ever called."""
    _, run = lab.run(suite="align", arms="scripted,scripted:slow")
    (found,) = run.of(Alignment)
    layers = [AlignedLayer(part="align", arm_a="A", arm_b="B", number=number, name=name, kind="Block", nth=0,
                           within=within, differences=[])
              for number, (name, within) in enumerate([("", None), ("down.0", 0), ("down.0.conv", 1), ("up.0", 0)])]
    assert [(line.depth, line.text.split(" (")[0]) for line in tree.drawn(layers, found)] == [
        (0, "network"), (1, "down.0"), (2, "conv"), (1, "up.0")]


def test_equal_arms_agree_and_the_page_says_so_first(lab):
    end, run = lab.run(suite="align", arms="scripted,scripted:slow")
    (found,) = run.of(Alignment)
    assert end.exit_code == 0 and found.word == "agree" and found.culprit is None and not found.hints
    page = report.build(run.path).with_suffix(".md").read_text()
    assert "**All layers of scripted and scripted:slow agree.**" in page


def test_an_arm_that_cannot_be_looked_into_is_no_failure_and_is_said(lab):
    end, run = lab.run(suite="align", arms="scripted,scripted:tf32")
    (found,) = run.of(Alignment)
    assert end.exit_code == 0 and found.word == "not-traced" and "has no trace" in found.reason
    assert [case.status for case in run.of(Case)] == ["skipped"]
    assert "were not compared" in report.build(run.path).with_suffix(".md").read_text()


def test_an_arm_that_crashes_is_a_failed_case_and_the_others_are_compared(lab):
    end, run = lab.run(suite="align", arms="scripted,scripted:wrong,scripted:unusable")
    cases = {case.case_id: case.status for case in run.of(Case)}
    assert end.exit_code == 1 and cases == {"align-B": "measured", "align-C": "failed"}


@pytest.mark.parametrize(("words", "said"), [
    (["--arms", "pytorch"], "suite align compares arms: give at least two"),
    (["--steps", "x"], "--steps: suite align takes one whole number"),
    (["--eta", "1"], "--eta: suite align judges no images"),
    (["--batch-size", "0"], "--batch-size: must be at least 1")])
def test_bad_input_is_one_line(words, said, capsys):
    assert cli.main(["--suite", "align", "--device", "cpu", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and "\n" not in told


def test_parity_offers_it_where_it_fails(lab):
    _, run = lab.run(suite="parity", arms="scripted,scripted:warped")
    (case,) = run.of(Case)
    assert "--suite align --arms scripted,scripted:warped names the first layer that differs" in case.reason
    assert "--suite align --arms scripted,scripted:warped" in report.build(run.path).with_suffix(".md").read_text()


def folder(path, outputs, name="layer", given=None):
    """A trace of one module in a network, with these outputs."""
    made = TraceFolder(path)
    made.finish([Call(0, "", "Net", 0, None), Call(1, name, "Layer", 0, 0)])
    for number in (0, 1):
        made(f"run {number}", {"input 0": np.ones(4, np.float32) if given is None else given})
        made(f"out {number}", {"output 0": outputs})
        made(f"fed {number}", {"output 0": outputs})
    made("loss", {"loss": np.array(1.0)})
    return made


def compared(tmp_path, mine, theirs, **options):
    traces = Traces(folder(tmp_path / "a", mine), folder(tmp_path / "b", theirs, **options), ("float32", "float32"))
    return lines(traces, COMMON)[-1]


@pytest.mark.parametrize(("theirs", "reason"), [
    (np.array([1, np.nan, 3], np.float32), "not a number"), (np.ones((3, 2), np.float32), "shape 3x2")])
def test_what_cannot_be_compared_differs(tmp_path, theirs, reason):
    mine = np.array([1, 2, 3], np.float32)
    found = compared(tmp_path, mine, theirs)
    assert found.word == "differ" and found.culprit.name == "layer"
    json.loads(found.model_dump_json())


def test_the_same_infinities_are_no_difference(tmp_path):
    same = np.array([1, np.inf, np.nan], np.float32)
    assert compared(tmp_path, same, same.copy()).word == "agree"


def test_modules_of_other_names_are_listed(tmp_path):
    same = np.ones(3, np.float32)
    found = compared(tmp_path, same, same, name="other")
    assert found.word == "agree" and found.compared == 1
    assert found.unmatched == ["layer (Layer): the reference alone", "other (Layer): the other arm alone"]


def test_other_inputs_are_told_before_any_layer(tmp_path):
    found = compared(tmp_path, np.ones(3, np.float32), np.zeros(3, np.float32), given=np.zeros(4, np.float32))
    assert found.culprit.stage == "input"


def test_how_far_arrays_are_apart():
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    found = error(a, b)
    assert (found.max_abs, found.max_rel, found.scale) == (0.5, 0.125, 4.0)
    assert found.norm_rel == pytest.approx(0.1) and found.cosine == pytest.approx(27 / (5 * np.hypot(3, 4.5)))
    assert error(np.ones((1, 2)), np.ones(2)).max_abs == 0 and error(np.ones((2, 3)), np.ones((3, 2))) is None
    assert np.isnan(error(np.zeros(2), np.ones(2)).cosine)


def test_nested_arguments_are_taken_apart_and_put_together():
    nested = ((1, [2.0, "x"]), {"a": 3.0, "b": (4.0, None)})
    assert list(leaves(nested, float)) == [2.0, 3.0, 4.0]
    assert exchanged(nested, float, lambda x: -x) == ((1, [-2.0, "x"]), {"a": -3.0, "b": (-4.0, None)})


def test_elements_with_the_smallest_gradients_are_kept():
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal(100_000).astype(np.float32)
    gradient[5:9] = 0
    chosen = kept(gradient)
    assert len(chosen) <= 2 * KEPT and set(np.argsort(np.abs(gradient))[4:100]) <= set(chosen)
    assert len(kept(np.ones(10))) == 10


def test_a_perturbation_is_relative_and_keyed():
    x = np.float32([1e-3, 1, 1e3])
    off = perturbed(x.astype(np.float64), 3) / x - 1
    assert 0 < np.abs(off).max() < 6e-7 and np.array_equal(perturbed(x, 3), perturbed(x, 3))
    assert np.array_equal(perturbed(np.arange(3), 0), np.arange(3))


def test_no_cause_is_named_that_the_arrays_do_not_bear_out():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 6, 6)).astype(np.float32)
    mine = rng.standard_normal(x.shape).astype(np.float32)
    assert list(known.causes(x, mine, mine + 0.1 * rng.standard_normal(x.shape).astype(np.float32), {})) == []


def normalised(x, groups, eps, ddof=0):
    rows = x.reshape(len(x) * groups, -1).astype(np.float64)
    made = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True, ddof=ddof) + eps)
    return made.reshape(x.shape).astype(np.float32)


@pytest.mark.parametrize(("theirs", "cause"), [
    (dict(groups=4, eps=1e-3), "epsilon: it has 0.001, the reference 1e-05"),
    (dict(groups=4, eps=1e-5, ddof=1), "it divides by n - 1")])
def test_norms_are_recomputed(theirs, cause):
    x = np.random.default_rng(1).standard_normal((2, 8, 4, 4)).astype(np.float32)
    found = list(known.causes(x, normalised(x, 4, 1e-5), normalised(x, **theirs), {}))
    assert any(cause in one for one in found), found


def test_a_trace_is_written_and_read_in_pieces(tmp_path):
    made = folder(tmp_path / "t", np.arange(3.0))
    assert made.of("layer", 0)["input 0"].tolist() == [1, 1, 1, 1] and made.of("none", 0) is None
    assert list(made.read("fed 1")) == ["output 0"] and made.read("fed 7") == {}
    assert io.BytesIO((tmp_path / "t" / "run-0.npz").read_bytes()).getvalue()[:2] == b"PK"
