"""Command line: `python -m impls.evaluate --images FILE.npz --reference cifar10 ...`: how good are drawn images?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from impls.command import process
from impls.errors import DataError, UsageError
from impls.evaluation import inception_file
from impls.evaluation import networks as extractors
from impls.evaluation.inputs import Images, open_reference, read_images, rgb
from impls.evaluation.nearest import nearest, picture
from impls.evaluation.networks import Extracted, FeatureNetwork, FeatureSpec, WeightsRequest
from impls.evaluation.results import Evaluation, Features, NearestFacts, ReferenceFacts, Rung, SetResult, table
from impls.pictures.images import save_png
from impls.store.files import whole_file
from impls.tools import tool
from impls.tools.evaluate.options import PROG, EvaluateOptions, parse

Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 2 bad input, 130 interrupted."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> None:
    options = parse(words)
    for place in filter(None, (options.json_path, options.nearest)):
        _check_writable(Path(place), folder=place == options.nearest)
    found = evaluate(options, (lambda _: None) if options.quiet else tool.say)
    if options.json_path is not None:
        with whole_file(Path(options.json_path)) as partial:
            partial.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(table(found), flush=True)


def evaluate(options: EvaluateOptions, say: Say) -> Evaluation:
    """Everything that the options ask for; the cheapest checks first.

    Raises:
        UsageError: the images, the reference, the network or the device cannot be used.
    """
    sets = [read_images(Path(path)) for path in options.images]
    reference = open_reference(options.reference, _path(options.data_root), say)
    for path, images in zip(options.images, sets, strict=True):
        if images.shape[1:3] != reference.all_images.shape[1:3]:
            raise UsageError(f"{path}: images of {_size(images)}, those of {reference.dataset} have "
                             f"{_size(reference.all_images)}: choose the reference that the images imitate")
    # From here on torch is needed, which takes seconds to import.
    from impls.evaluation import features, figures

    device = features.open_device(options.device)
    count = reference.count(options.reference_images, device)
    spec = _choose(options, reference.dataset, count, say)
    features.check_size(spec, reference.dataset, count)
    net = extractors.create(spec, WeightsRequest(_path(options.inception_weights), options.inception_sha256, say))

    def look(images: Images, title: str) -> Extracted:
        return features.extract(net, images, options.batch_size, device, title, options.quiet)

    real_images = reference.all_images[:count]
    wanted = features.identity(net, real_images, options.batch_size, device)
    real_features, rate = features.cached(wanted, lambda: look(real_images, reference.dataset), say)
    about = Features(extractor=spec.name, label=net.label, weights_sha256=net.weights_sha256,
                     feature_size=spec.feature_size, input_size=spec.input_size)
    facts = ReferenceFacts(dataset=reference.dataset, split=reference.split(count), images=count,
                           images_sha256=str(wanted["images_sha256"]), cached=rate is None, images_per_s=rate)
    if options.reference_only:
        return Evaluation(features=about, reference=facts, sets=[], differences=[])
    real = figures.Real(real_features)
    found, results = [], []
    for number, (path, images) in enumerate(zip(options.images, sets, strict=True)):
        drawn = look(images, Path(path).name)
        say(f"{path}: figures of {len(images)} images")
        one = figures.figures(drawn, real, spec, options.seed)
        shown = None
        if options.nearest is not None:
            file = Path(options.nearest) / f"nearest-{number}.png"
            shown = _nearest(file, images[: options.nearest_images], drawn.features, real_images, real_features, net)
        found.append(one)
        results.append(SetResult(
            path=path, images=len(images), figures=one.figures,
            ladder=[Rung(images=size, value=value) for size, value in one.study.ladder], interval=one.interval,
            images_per_s=drawn.images_per_s, warnings=figures.warnings(len(images), spec), nearest=shown))
    differences = [figures.difference(0, b, found[0], found[b], len(images))
                   for b, images in enumerate(sets) if b > 0 and len(images) == len(sets[0])]
    return Evaluation(features=about, reference=facts, sets=results, differences=differences)


def _choose(options: EvaluateOptions, dataset: str, count: int, say: Say) -> FeatureSpec:
    """The network of `--features`; "auto" says what it took and why."""
    if options.features != "auto":
        return extractors.find(options.features)
    inception = extractors.find(extractors.INCEPTION)
    if options.inception_weights or options.inception_sha256:
        return inception
    if count <= inception.feature_size:
        why = f"{count} reference images are too few for {inception.name}"
    elif (path := inception_file.find()) is not None:
        say(f"features {inception.name}: its weights are in {path}")
        return inception
    elif dataset == "cifar10":
        try:
            path = inception_file.download(say)
        except DataError as error:
            why = str(error)
        else:
            say(f"features {inception.name}: its weights were downloaded")
            return inception
    else:
        why = f"Inception's weights are neither in {inception_file.own_folder()} nor in {inception_file.hub_folder()}"
    say(f"features {extractors.EFFICIENTNET}: {why}")
    return extractors.find(extractors.EFFICIENTNET)


def _nearest(path: Path, drawn: Images, drawn_features: extractors.Floats, real: Images, features: extractors.Floats,
             net: FeatureNetwork) -> NearestFacts:
    found = nearest(drawn_features[: len(drawn)], features)
    save_png(path, picture(rgb(drawn), rgb(np.stack([real[row] for row in found.rows]))))
    return NearestFacts(picture=str(path), space=f"features of {net.spec.name}", distances=found.distances.tolist(),
                        typical=found.typical)


def _check_writable(path: Path, folder: bool) -> None:
    """Find out now, and not after minutes of computing, whether something can be written there.

    Raises:
        UsageError: it cannot.
    """
    name = f"--nearest {path}" if folder else f"--json {path}"
    if path.is_dir() != folder and path.exists():
        raise UsageError(f"{name}: is a {'file' if folder else 'folder'}: choose another name")
    place = path if folder else path.parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UsageError(f"{name}: cannot be written: {place}: {error.strerror}") from error


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _size(images: Images) -> str:
    return f"{images.shape[1]}x{images.shape[2]} pixels"
