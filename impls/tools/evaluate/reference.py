"""The reference through the network: which network, and what is then known of real images or of statistics alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from impls.errors import DataError, UsageError
from impls.evaluation import networks as extractors
from impls.evaluation.inputs import Images, Reference, Say
from impls.evaluation.inputs.statistics import Published
from impls.evaluation.networks import Extracted, FeatureNetwork, FeatureSpec, inception_file
from impls.evaluation.results import ReferenceFacts, StatisticsFacts
from impls.tools.evaluate.options import EvaluateOptions
from impls.tools.team import Team

if TYPE_CHECKING:
    from impls.evaluation.figures import Real

FOREIGN = "nothing in the file of statistics tells which network and which images they are of"
Look = Callable[[Images, str], Extracted]


@dataclass(frozen=True)
class Seen:
    """What the network says of the reference.

    Attributes:
        facts: for the results.
        real: what figures are made against.
        images: the real images; None where there are statistics alone.
    """

    facts: ReferenceFacts | StatisticsFacts
    real: Callable[[], Real]
    images: Images | None


See = Callable[[FeatureNetwork, Look], Seen]


def of_statistics(options: EvaluateOptions, reference: Published, say: Say) -> tuple[FeatureSpec, See]:
    """The network that fits published statistics, and how to see them.

    Raises:
        UsageError: none fits, or they are no statistics.
    """
    from impls.evaluation.figures import Real

    spec = fitting(options, reference, say)
    real = Real.published(reference)
    facts = StatisticsFacts(dataset=reference.path.name, sha256=reference.sha256, feature_size=spec.feature_size,
                            note=FOREIGN)
    return spec, lambda net, look: Seen(facts, lambda: real, None)


def of_images(options: EvaluateOptions, reference: Reference, device: str, say: Say, together: Team | None = None
              ) -> tuple[FeatureSpec, See]:
    """The network for real images, and how to see them; of several ranks the first one has the cache.

    Raises:
        UsageError: there are too few, or one of them cannot be read.
    """
    from impls.evaluation.figures import Real
    from impls.evaluation.networks import features

    count, leads = reference.count(options.reference_images, device), together is None or together.leads
    spec = choose(options, reference.dataset, count, say)
    features.check_size(spec, reference.dataset, count)
    images = reference.source.first(count, options.quiet or not leads)

    def see(net: FeatureNetwork, look: Look) -> Seen:
        wanted = features.identity(net, images, options.batch_size, device)

        def agreed(missing: bool) -> bool:
            return missing if together is None else together.agreed(missing)[0]

        found, rate = features.cached(wanted, lambda: look(images, reference.dataset), say, leads=leads, agreed=agreed)
        facts = ReferenceFacts(
            dataset=reference.dataset, split=reference.split(count, options.resize), images=count,
            images_sha256=str(wanted["images_sha256"]), cached=rate is None, images_per_s=rate)
        return Seen(facts, partial(Real.of, found), images)

    return spec, see


def fitting(options: EvaluateOptions, reference: Published, say: Say) -> FeatureSpec:
    """The network of `--features`; "auto" takes the built-in one that has as many features as the statistics.

    Raises:
        UsageError: the network has other than so many features.
    """
    d = len(reference.mean)
    if options.features != "auto":
        spec = extractors.find(options.features)
    else:
        named = (extractors.INCEPTION,) if options.inception_weights or options.inception_sha256 else ()
        known = [extractors.find(name) for name in named or (one.name for one in extractors.BUILT_IN)]
        spec = next((one for one in known if one.feature_size == d), known[0])
        say(f"features {spec.name}: {reference.path} has statistics of {d} features")
    if spec.feature_size != d:
        raise UsageError(f"{reference.path}: statistics of {d} features, {spec.name} has {spec.feature_size}: choose "
                         "the network of the statistics with --features")
    return spec


def choose(options: EvaluateOptions, dataset: str, count: int, say: Say) -> FeatureSpec:
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
