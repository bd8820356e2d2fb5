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
from messages import marked, tell

if TYPE_CHECKING:
    from impls.evaluation.figures import Real

FOREIGN = marked("nothing in the file of statistics tells which network and which images they are of")
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
        say(tell("features {name}: {path} has statistics of {size} features", name=spec.name, path=reference.path,
                 size=d))
    if spec.feature_size != d:
        raise UsageError(tell("{path}: statistics of {size} features, {name} has {own_size}: choose the network of "
                              "the statistics with --features", path=reference.path, size=d, name=spec.name,
                              own_size=spec.feature_size))
    return spec


def choose(options: EvaluateOptions, dataset: str, count: int, say: Say) -> FeatureSpec:
    """The network of `--features`; "auto" says what it took and why."""
    if options.features != "auto":
        return extractors.find(options.features)
    inception = extractors.find(extractors.INCEPTION)
    if options.inception_weights or options.inception_sha256:
        return inception
    if count <= inception.feature_size:
        why = tell("{count} reference images are too few for {name}", count=count, name=inception.name)
    elif (path := inception_file.find()) is not None:
        say(tell("features {name}: its weights are in {path}", name=inception.name, path=path))
        return inception
    elif dataset == "cifar10":
        try:
            path = inception_file.download(say)
        except DataError as error:
            why = str(error)
        else:
            say(tell("features {name}: its weights were downloaded", name=inception.name))
            return inception
    else:
        why = tell("Inception's weights are neither in {folder} nor in {other}", folder=inception_file.own_folder(),
                   other=inception_file.hub_folder())
    say(tell("features {name}: {why}", name=extractors.EFFICIENTNET, why=why))
    return extractors.find(extractors.EFFICIENTNET)
