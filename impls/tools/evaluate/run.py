"""Command line: `python -m impls.evaluate --images FILE.npz --reference cifar10 ...`: how good are drawn images?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from impls.command import process
from impls.errors import UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.inputs import Images, Reference, Say, Source, brought, open_images, open_reference, rgb
from impls.evaluation.inputs.statistics import Published
from impls.evaluation.nearest import nearest, picture
from impls.evaluation.networks import Extracted, FeatureNetwork, WeightsRequest
from impls.evaluation.results import (
    Evaluation,
    Features,
    NearestFacts,
    Rung,
    SetResult,
    StatisticsFacts,
    table,
)
from impls.pictures.images import save_png
from impls.ranks import ALONE, Ranks, threads_here
from impls.registry import parse_arm
from impls.store.files import whole_file
from impls.tools import team, tool
from impls.tools.cost import duration, megabytes
from impls.tools.evaluate import shared
from impls.tools.evaluate.options import PROG, EvaluateOptions, parse
from impls.tools.evaluate.reference import of_images, of_statistics
from impls.tools.team import Team
from messages import recorded, tell

Result = TypeVar("Result")
RANKS_ARM = "pytorch"
# Trying what a batch takes costs two of them; it is not tried where that would be much of the work.
WORTH_BATCHES = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 2 bad input, 130 interrupted."""
    return process.run(PROG, partial(team.run, _main), argv)


def _main(words: list[str], ranks: Ranks) -> None:
    options = parse(words)
    say = tool.quiet if options.quiet or ranks.rank > 0 else tool.say
    with ExitStack() as stack:
        together = None
        if ranks.size > 1:
            # The feature networks are PyTorch's, and so are the ranks that look through them.
            arm = parse_arm(RANKS_ARM)
            team.require_startable(arm, ranks, PROG, words)
            backend, _ = tool.open_backend(arm, options.device, say, ranks=ranks)
            together = stack.enter_context(team.joined(backend, arm, ranks))
        if together is None or together.leads:
            for place in filter(None, (options.json_path, options.nearest)):
                _check_writable(Path(place), folder=place == options.nearest)
        found = evaluate(options, say, together)
    if found is None:
        return
    if options.json_path is not None:
        with whole_file(Path(options.json_path)) as partial:
            partial.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(table(found), flush=True)


def evaluate(options: EvaluateOptions, say: Say, together: Team | None = None) -> Evaluation | None:
    """Everything that the options ask for; the cheapest checks first.

    Several ranks look at a part of the images each; the first one computes the figures, and for the others there are
    none.

    Raises:
        UsageError: the images, the reference, the network or the device cannot be used.
    """
    ranks, leads = (ALONE, True) if together is None else (together.ranks, together.leads)
    quiet = options.quiet or not leads

    def in_turn(work: Callable[[], Result]) -> Result:
        # What may be downloaded, by one rank of a host.
        return work() if together is None else together.in_turn(work)

    sources, reference = in_turn(lambda: _opened(options, say))
    # From here on torch is needed, which takes seconds to import.
    from impls.evaluation import figures
    from impls.evaluation.networks import features

    device = features.open_device(options.device, threads_here(ranks) if ranks.local_size > 1 else None)
    spec, see = in_turn(lambda: of_statistics(options, reference, say) if isinstance(reference, Published)
                        else of_images(options, reference, device, say, together))
    # Whatever is wrong with a file shows before the network is built.
    sets = [source.first(source.count, quiet) for source in sources]
    net = in_turn(lambda: extractors.create(
        spec, WeightsRequest(_path(options.inception_weights), options.inception_sha256, say)))
    if together is not None:
        together.require_alike({"images": shared.digest(sets), "weights": net.weights_sha256[:16],
                                "--batch-size": str(options.batch_size)})
    real_images = 0 if isinstance(reference, Published) else reference.count(options.reference_images, device)
    _foresee(net, sets, real_images, options.batch_size, device, ranks, say)

    def look(images: Images, title: str) -> Extracted:
        extract = partial(features.extract, net, batch_size=options.batch_size, device=device, title=title, quiet=quiet)
        if together is None:
            return extract(images)
        return shared.look(extract, images, options.batch_size, together)

    about = Features(extractor=spec.name, label=net.label, weights_sha256=net.weights_sha256,
                     feature_size=spec.feature_size, input_size=spec.input_size)
    seen = see(net, look)
    if not leads:
        for images in sets:
            look(images, "")
        return None
    if options.reference_only:
        return Evaluation(features=about, reference=seen.facts, sets=[], differences=[])
    real = seen.real()
    notes = [recorded("images were {treatment}, which changes every figure: compare it only with figures of images "
                      "treated alike", treatment=brought(options.resize))] if options.resize else []
    notes += [seen.facts.note] if isinstance(seen.facts, StatisticsFacts) else []
    found, results = [], []
    for number, (path, images) in enumerate(zip(options.images, sets, strict=True)):
        drawn = look(images, Path(path).name)
        say(tell("{path}: figures of {count} images", path=path, count=len(images)))
        one = figures.figures(drawn, real, spec, options.seed)
        shown = None
        if options.nearest is not None and seen.images is not None and real.features is not None:
            file = Path(options.nearest) / f"nearest-{number}.png"
            shown = _nearest(file, images[: options.nearest_images], drawn.features, seen.images, real.features, net)
        found.append(one)
        results.append(SetResult(
            path=path, images=len(images), figures=one.figures,
            ladder=[Rung(images=size, value=value) for size, value in one.study.ladder], interval=one.interval,
            images_per_s=drawn.images_per_s, warnings=[*notes, *figures.warnings(len(images), spec)], nearest=shown))
    differences = [figures.difference(0, b, found[0], found[b], len(images))
                   for b, images in enumerate(sets) if b > 0 and len(images) == len(sets[0])]
    return Evaluation(features=about, reference=seen.facts, sets=results, differences=differences)


def _opened(options: EvaluateOptions, say: Say) -> tuple[list[Source], Reference | Published]:
    """The sets and the reference, before they are read.

    Raises:
        UsageError: one of them cannot be used, or they do not fit one another.
    """
    sources = [open_images(Path(path), options.resize) for path in options.images]
    reference = open_reference(options.reference, _path(options.data_root), say, options.resize)
    _check_together(options, sources, reference)
    return sources, reference


def _foresee(net: FeatureNetwork, sets: Sequence[Images], real_images: int, batch_size: int, device: str, ranks: Ranks,
             say: Say) -> None:
    """Say what looking at all images will take, where that is worth trying."""
    from impls.evaluation.networks import features

    count = real_images + sum(map(len, sets))
    batches = -(-count // batch_size // ranks.size)
    if not sets or batches < WORTH_BATCHES or ranks.rank > 0:
        return
    seconds = features.batch_s(net, sets[0], batch_size, device)
    of_each = tell(" on each of {ranks} ranks", ranks=ranks.size) if ranks.size > 1 else ""
    kept = megabytes(4 * net.spec.feature_size * real_images)
    cache = tell("; features of the reference take {size} in the cache, and no time where they are",
                 size=kept) if real_images else ""
    say(tell("about {time}: {count} images, {batches} batches of {batch_size}{of_each}, {seconds} s a batch{cache}",
             time=duration(seconds * batches), count=count, batches=batches, batch_size=batch_size, of_each=of_each,
             seconds=f"{seconds:.2g}", cache=cache))


def _check_together(options: EvaluateOptions, sources: Sequence[Source], reference: Reference | Published) -> None:
    """Make sure that sets, reference and options fit one another, as far as sizes tell.

    Raises:
        UsageError: the first fault.
    """
    if isinstance(reference, Published):
        for name, value in (("nearest", options.nearest), ("reference_images", options.reference_images)):
            if value is not None:
                raise UsageError(tell("--{name}: needs the real images, {path} holds statistics alone: leave it out "
                                      "or name images", name=name, path=reference.path))
        return
    for path, source in zip(options.images, sources, strict=True):
        if source.size != reference.source.size:
            raise UsageError(tell("{path}: images of {size}, those of {dataset} have {other}: choose the reference "
                                  "that the images imitate, or bring both to one size with --resize N", path=path,
                                  size=_size(source.size), dataset=reference.dataset,
                                  other=_size(reference.source.size)))


def _nearest(path: Path, drawn: Images, drawn_features: extractors.Floats, real: Images, features: extractors.Floats,
             net: FeatureNetwork) -> NearestFacts:
    found = nearest(drawn_features[: len(drawn)], features)
    save_png(path, picture(rgb(drawn), rgb(np.stack([real[row] for row in found.rows]))))
    return NearestFacts(picture=str(path), space=recorded("features of {network}", network=net.spec.name),
                        distances=found.distances.tolist(),
                        typical=found.typical)


def _check_writable(path: Path, folder: bool) -> None:
    """Find out now, and not after minutes of computing, whether something can be written there.

    Raises:
        UsageError: it cannot.
    """
    name = f"--nearest {path}" if folder else f"--json {path}"  # English
    if path.is_dir() != folder and path.exists():
        raise UsageError(tell("{name}: is a file: choose another name", name=name) if folder else
                         tell("{name}: is a folder: choose another name", name=name))
    place = path if folder else path.parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UsageError(tell("{name}: cannot be written: {place}: {reason}", name=name, place=place,
                              reason=error.strerror)) from error


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _size(size: tuple[int, int]) -> str:
    return tell("{height}x{width} pixels", height=size[0], width=size[1])
