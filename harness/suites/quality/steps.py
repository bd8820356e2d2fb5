"""Single steps of the quality part: a training up to a milestone, a set of images, a judgement; each by one tool."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.bench import Bench, plain
from harness.processes.session import WorkerFailedError
from harness.record.events import (
    ArmSlot,
    Event,
    ImagesSampled,
    NearestImages,
    Quality,
    QualityDifference,
    ReferenceFeatures,
    Trained,
)
from harness.record.run import RecordedRun
from harness.suites.sampling.cells import Cell
from impls.errors import UsageError
from impls.recipe.config import ExperimentConfig, SampleConfig, read_json
from impls.registry import Arm
from impls.store import trainlog
from impls.store.trainfolder import CHECKPOINTS, checkpoint_name, checkpoints
from impls.store.weights import load_weights
from messages import recorded, speaking

NEAREST = 8
# What all sets of a run must be held against alike.
SAME_REFERENCE = ("label", "weights_sha256", "dataset", "images", "images_sha256")
# A killed training goes on from the newest checkpoint.
CHECKPOINTS_PER_TRAINING = 4
ENDLESS_EPOCHS = 1_000_000


def train_to(bench: Bench, slot: ArmSlot, steps: int, since: int, training: ExperimentConfig, data_root: str | None,
             case: str) -> Trained:
    """Train an arm up to `steps`, from wherever its folder in the run stands; `since` is the milestone before.

    Raises:
        WorkerFailedError: it cannot.
    """
    arm, root = bench.plan.arm(slot), bench.writer.path / "training" / slot
    newest = next((found[-1] for path in sorted(root.glob("*")) if (found := checkpoints(path / CHECKPOINTS))), None)
    words = [f"--backend={arm.name}", f"--max_steps={steps}", f"--device={bench.plan.device}"]
    if newest is not None:
        words.append(f"--model_path={newest.parent.parent}")
    else:
        # What was killed before its first checkpoint begins again.
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        recipe = root / "recipe.json"
        recipe.write_text(json.dumps({"experiment": plain(training)}), encoding="utf-8")
        words += [f"--config={recipe}", f"--dataset_name={bench.dataset}", f"--log_root={root}", "--sample_every=0",
                  f"--num_epochs={ENDLESS_EPOCHS}", "--checkpoint=0", "--keep_last=2",
                  f"--checkpoint_steps={max(50, steps // CHECKPOINTS_PER_TRAINING)}",
                  *([f"--data_root={data_root}"] if data_root else [])]
    whole = newest is None if since == 0 else newest is not None and newest.name == checkpoint_name(since)
    seconds = _run(bench, "train", words, case,
                   recorded("{arm}: training to {steps} steps", arm=arm.name, steps=steps), arm)
    found = list(root.glob(f"*/{CHECKPOINTS}/{checkpoint_name(steps)}"))
    if not found:
        raise WorkerFailedError("error", recorded(
            "{arm}: the training ended without its checkpoint of {steps} steps", arm=arm.name, steps=steps))
    # The training itself keeps only its newest checkpoints.
    kept = root / checkpoint_name(steps)
    kept.unlink(missing_ok=True)
    kept.hardlink_to(found[0])
    losses = [line.loss for line in trainlog.read(found[0].parent.parent / "log.jsonl", steps)
              if isinstance(line, trainlog.StepLine)]
    tail = losses[-max(1, steps // 10):]
    return Trained(arm=slot, steps=steps, batch_size=training.train.batch_size, seconds=seconds if whole else None,
                   loss=statistics.fmean(tail) if tail else None,
                   checkpoint=kept.relative_to(bench.writer.path).as_posix(),
                   weights_sha256=load_weights(kept).sha256())


def draw_set(bench: Bench, slot: ArmSlot, cell: Cell, train_steps: int | None, weights: Path, images: int,
             eta: float | None, case: str) -> ImagesSampled:
    """Draw a set of images with an arm; a set that was begun is finished. `eta` None is the experiment's.

    Raises:
        WorkerFailedError: it cannot.
    """
    arm, run, sample = bench.plan.arm(slot), bench.writer.path, bench.experiment.sample
    folder, ddim = run / "samples" / f".{case}", cell.method == "ddim"
    words = [f"--backend={arm.name}", f"--model_path={weights}", f"--num_images={images}",
             f"--batch_size={sample.batch_size}", f"--seed={bench.experiment.seed}", f"--device={bench.plan.device}",
             "--test", f"--sample_root={folder}", "--no-log"]
    if ddim:
        words += [f"--steps={cell.steps}", f"--eta={sample.eta if eta is None else eta}", f"--spacing={sample.spacing}"]
    what = recorded("{arm}: {images} images by {cell}", arm=arm.name, images=images, cell=cell.name)
    # The run's settings, whatever the weights' own are.
    settings = run / "samples" / f".{case}-config.json"
    settings.write_text(json.dumps({"experiment": {"sample": sample.model_dump(include=set(SampleConfig.later))}}),
                        encoding="utf-8")
    words.append(f"--config={settings}")
    try:
        _run(bench, "sample", words, case, what, arm)
    except WorkerFailedError as error:
        if "images of other settings" not in error.message:  # English
            raise
        # Begun by another version of the framework, before the run went on elsewhere.
        shutil.rmtree(folder)
        _run(bench, "sample", words, case, what, arm)
    finally:
        settings.unlink()
    facts = _facts(folder / "sampling.json")
    npz, grid = f"samples/{case}.npz", f"samples/{case}.png"
    try:
        (folder / "grid.png").replace(run / grid)
        (folder / "images.npz").replace(run / npz)
    except OSError as error:
        raise WorkerFailedError("error", recorded("{arm}: its images are not where they should be: {error}",
                                                  arm=arm.name, error=error)) from error
    shutil.rmtree(folder, ignore_errors=True)
    # The first batch compiles, and an interrupted set has batches of two processes: the typical one stands for all.
    each = [spent / count for spent, count in facts["batches"]]
    return ImagesSampled(
        arm=slot, cell=cell.name, nfe=facts["nfe"], eta=facts["eta"], spacing=facts["spacing"], seed=facts["seed"],
        images=images, batch_size=sample.batch_size, train_steps=train_steps, npz=npz, grid=grid,
        seconds=statistics.median(each) * images if each else None,
        why_no_seconds=None if each else recorded("an interrupted run had drawn all of them"),
        weights=facts["weights"]["description"].replace(f"{run}/", ""), weights_kind=facts["weights"]["kind"],
        weights_sha256=facts["weights"]["sha256"])


def evaluate(bench: Bench, options: Sequence[str], sets: Sequence[ImagesSampled], case: str, nearest: bool,
             before: RecordedRun, reference: ReferenceFeatures | None) -> list[Quality]:
    """Judge sets of equally many images, one of each arm, and record what none has `before`.

    Raises:
        WorkerFailedError: it cannot, or network or real images are others than those of the run's `reference`.
    """
    run = bench.writer.path
    output = run / f".{case}.json"
    words = [*options, f"--json={output}", *(f"--images={run / one.npz}" for one in sets)]
    words += [] if sets else ["--reference-only"]
    words += [f"--nearest={run / 'samples' / f'.{case}'}", f"--nearest_images={NEAREST}"] if nearest else []
    _run(bench, "evaluate", words, case, recorded("judging images") if sets else recorded("reference"))
    result = _facts(output)
    output.unlink()
    features, real = result["features"], result["reference"]
    known = {event.key for event in before.events}

    def append(event: Event) -> None:
        if event.key not in known:
            bench.writer.append(event)

    now = ReferenceFeatures(**features, **real)
    if reference is None:
        append(now)
    elif changed := [name for name in SAME_REFERENCE if getattr(now, name) != getattr(reference, name)]:
        raise WorkerFailedError("error", recorded(
            "judging images: {field} was {before} and is {after} now: start a new run", field=changed[0],
            before=getattr(reference, changed[0]), after=getattr(now, changed[0])))
    found: list[Quality] = []
    for one, told in zip(sets, result["sets"], strict=True):
        quality = Quality(arm=one.arm, cell=one.cell, train_steps=one.train_steps, extractor=features["extractor"],
                          label=features["label"], **{key: told[key] for key in (
                              "images", "figures", "ladder", "interval", "images_per_s", "warnings")})
        append(quality)
        found.append(quality)
        if told.get("nearest"):
            append(_nearest(run, one, told["nearest"], case))
    for pair in result["differences"]:
        a, b = sets[pair["a"]], sets[pair["b"]]
        append(QualityDifference(
            arm_a=a.arm, arm_b=b.arm, cell=a.cell, train_steps=a.train_steps, label=features["label"],
            images=pair["images"], value=pair["value"], ci_low=pair["ci_low"], ci_high=pair["ci_high"],
            matched_weights=a.weights_sha256 == b.weights_sha256))
    return found


def _nearest(run: Path, one: ImagesSampled, told: dict[str, Any], case: str) -> NearestImages:
    picture = f"samples/nearest-{one.arm}-{one.cell}.png"
    source = Path(told["picture"])
    source.replace(run / picture)
    if not any(source.parent.iterdir()):
        source.parent.rmdir()
    return NearestImages(arm=one.arm, cell=one.cell, picture=picture, space=told["space"],
                         distances=told["distances"], typical=told["typical"])


def _facts(path: Path) -> dict[str, Any]:
    try:
        with speaking("en"):
            return read_json(path)
    except UsageError as error:
        raise WorkerFailedError("error", recorded("a tool left no readable result: {error}", error=error)) from error


def _run(bench: Bench, tool: str, words: Sequence[str], case: str, text: str, arm: Arm | None = None) -> float:
    """Have a tool do its work, the run's time limit permitting; the seconds that it took."""
    if bench.tools is None:
        raise RuntimeError("a quality part without tools")

    def check() -> None:
        bench.check_time(recorded("before all sets of images were drawn and judged"))

    check()
    return bench.tools.run(tool, words, bench.ledger.log(case), bench.progress, text, arm, check)
