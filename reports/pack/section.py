"""The section for a README: six headings, filled from a run's own page, so that both always tell the same numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup, escape

from harness.record.events import Alignment, DatasetRecorded, Figure, PairRecorded, Quality, Trained
from harness.record.run import Machine, machines
from messages import count, marked, plural, shown, tell, words
from reports.chapters.evidence.machine import differences, machine_fact, measured_in, plain
from reports.pack import cells
from reports.pack.cells import Cell
from reports.pack.pictures import Shown
from reports.pack.quotes import Quote
from reports.page.blocks import Code, Picture, Prose, Section, Table, head, table_of
from reports.page.figures import absent
from reports.page.render import closed_up, markdown_environment
from reports.suites.registry import settings_of
from reports.text import TIMES, Value, missing, number, one_line, sentence, utc
from reports.view.run import RunView, leaves

# The six headings.
ENVIRONMENT, DATA, TRAINING = marked("Environment"), marked("Data"), marked("Training")
TEST, ALIGNMENT, PERFORMANCE = marked("Test"), marked("Alignment log"), marked("Performance log")
# What stands under them, a whole string each.
TITLE = marked("{arms}: measured with ddpm-bench")
LEAD = marked("Run {run}, {suite}, {when}. {setting}.")
MACHINE = marked("The machine")
FACT, VALUE = marked("fact"), marked("value")
NO_MACHINE = marked("n/a: the journal holds no environment.")
IMAGES = marked("What was trained and measured on")
NO_DATA = marked("n/a: {reason}.")
COMMAND = marked("The command of this run")
SCRIPT = marked("Training alone")
RECIPE = marked("The recipe")
RECIPE_OF_PAIR = marked("The recipe is that of {file}: its optimiser, its loss, its batches.")
TRAININGS = marked("Trainings of this run")
NOT_TRAINED = marked("n/a: this run trained nothing.")
DISTANCES = marked("Distance to real images with its 95 % interval; N is the number of drawn images")
NO_TEST = marked("n/a: this run judged no images. {command} does.")
NO_TEST_OF_PAIR = marked("n/a: what a pair's models are worth on test data is not measured.")
NO_ALIGNMENT = marked("n/a: this run checked no parity. {command} does.")
NO_PERFORMANCE = marked("n/a: this run compared no times. {command} does.")
QUALITY_COMMAND = "python run_bench.py --suite quality"  # English
PARITY_COMMAND = "python run_bench.py --suite parity"  # English
SPEED_COMMAND = "python run_bench.py --suite train-speed"  # English
UNKNOWN_SUITE, UNKNOWN_TIME = marked("unknown suite"), marked("start time n/a")
PAIR, DATA_SET, IMAGE_COUNT = marked("models and batches"), marked("data set"), marked("images")
BATCH = marked("batch size, {section}")
SHAPED, HASH = marked("{images} of {shape}"), "SHA-256 {digest}"
NO_SECONDS, NO_LOSS, NOT_COMPUTED = marked("interrupted between"), marked("not recorded"), marked("not computed")
IN_BLOCKS = marked("{value}, {blocks}")
WITH_INTERVAL, NO_INTERVAL = "{value} [{low}, {high}]", marked("{value} (no interval)")

RECIPE_GROUPS = ("preset", "seed", "model", "diffusion", "train")
# Facts that are told although runs that differ in them may be compared.
ALSO = ("memory_total_bytes", "distribution", "kernel", "compiler", "nvcc", "gpu_cuda_driver", "version_ddpm-bench",
        "git_commit")
# Sections of the page, by their address, whose tables and figures belong under a heading; each part has its own.
FROM_PAGE = {
    TEST: r"(quality|quality-cost)(-\d+)?",
    ALIGNMENT: r"(.+-)?(parity|losses|agreement)|training(-\d+)?",
    PERFORMANCE: r"(.+-)?(ratio|key-figures|throughput|over-calls)",
}
# The ratio's own table is that of the cells, without interval and N in columns of their own.
TABLES_FROM_PAGE = {TEST: r"(?!)", ALIGNMENT: FROM_PAGE[ALIGNMENT], PERFORMANCE: r"(.+-)?key-figures"}


@dataclass(frozen=True)
class Listing:
    """Several like statements."""

    items: tuple[str, ...]
    kind: str = "listing"


@dataclass(frozen=True)
class Markdown:
    """Markup of ours."""

    text: Markup
    kind: str = "markdown"


Piece = Table | Code | Prose | Listing | Markdown


@dataclass(frozen=True)
class Heading:
    """One of the six, with what stands under it."""

    title: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Pack:
    """What the section is made of.

    Attributes:
        seen: the run.
        arms: the compared arms, for the title.
        setting: where it was measured.
        folder: relative address of the files that go with it.
        page: the sections of the run's page.
        shown: figures that could be drawn, by name, and why others could not.
        cells: all ratios.
        quotes: sentences.
        limits: what the run says nothing about.
        files: name -> what it is, of what else lies in the folder.
        badge: what the badge says.
        suffix: of the badge's file.
    """

    seen: RunView
    arms: str
    setting: str
    folder: str
    page: Sequence[Section]
    shown: dict[str, Shown | str]
    cells: list[Cell]
    quotes: list[Quote]
    limits: list[str]
    files: dict[str, str]
    badge: str
    suffix: str = ""


def markdown(pack: Pack) -> str:
    """The section."""
    text = markdown_environment().get_template("readme.md").render(
        title=tell(TITLE, arms=pack.arms), lead=lead(pack), badge=badge(pack), headings=headings(pack),
        may=[one.text for one in pack.quotes if one.why_not is None],
        may_not=[one for one in pack.quotes if one.why_not is not None], limits=pack.limits,
        files=[(Markup(escape(f"{pack.folder}/{name}")), name, what) for name, what in pack.files.items()])
    return closed_up(text)


def lead(pack: Pack) -> str:
    """Which run it is."""
    run = pack.seen.run
    return tell(LEAD, run=run.path.resolve().name, suite=run.started.suite if run.started else tell(UNKNOWN_SUITE),
                when=utc(run.started.started_utc) if run.started else tell(UNKNOWN_TIME), setting=pack.setting)


def badge(pack: Pack) -> Markup:
    """The badge as a picture."""
    return Markup('<img src="{address}" alt="{alt}">').format(  # English
        address=f"{pack.folder}/badge{pack.suffix}.svg", alt=pack.badge)


def headings(pack: Pack) -> list[Heading]:
    """The six, in the order in which they are asked for."""
    seen = pack.seen
    return [
        Heading(tell(ENVIRONMENT), tuple(environment(seen))),
        Heading(tell(DATA), tuple(data(seen))),
        Heading(tell(TRAINING), tuple(training(seen))),
        Heading(tell(TEST), tuple(test(pack))),
        Heading(tell(ALIGNMENT), tuple(alignment(pack))),
        Heading(tell(PERFORMANCE), tuple(performance(pack))),
    ]


def environment(seen: RunView) -> Iterator[Piece]:
    """What must match before others compare with it, and what each arm proved to run."""
    found = machines(seen.run.events)
    names = [name for name in dict.fromkeys(name for one in found for name in one.recorded.facts) if told(name, found)]
    columns = [Value(tell(IN_BLOCKS, value=tell(VALUE), blocks=measured_in(one)) if len(found) > 1 else tell(VALUE))
               for one in found]  # fmt: skip
    rows = tuple((Value(name.replace("_", " ")), *(machine_fact(name, one.recorded) for one in found))
                 for name in names)  # fmt: skip
    yield Table(tell(MACHINE), (Value(tell(FACT)), *columns), rows) if rows else Prose(tell(NO_MACHINE))
    yield from some(differences(seen))


def told(name: str, found: Iterable[Machine]) -> bool:
    """Whether a fact of the machine is known and matters to others."""
    return any(one.recorded.facts.get(name) is not None and (name in one.recorded.starred or name in ALSO)
               for one in found)


def data(seen: RunView) -> Iterator[Piece]:
    """The images, or the user's own models with their batches."""
    recorded, pair = seen.run.last(DatasetRecorded), seen.run.last(PairRecorded)
    rows: list[tuple[Value, Value]] = []
    if pair:
        rows += [(Value(tell(PAIR)), Value(pair.name, HASH.format(digest=pair.sha256)))]
    elif recorded:
        shape = TIMES.join(map(str, recorded.shape))
        rows += [(Value(tell(DATA_SET)), Value(recorded.name, HASH.format(digest=recorded.sha256))),
                 (Value(tell(IMAGE_COUNT)), Value(tell(SHAPED, images=count(recorded.images), shape=shape)))]
    rows += [(Value(tell(BATCH, section=section)), Value(plural(size, "image")))
             for section, size in seen.batch_sizes.items()]  # fmt: skip
    if rows:
        yield Table(tell(IMAGES), head(*words("what", "value")), tuple(rows))
    else:
        yield Prose(tell(NO_DATA, reason=tell(seen.unit.no_data)))


def training(seen: RunView) -> Iterator[Piece]:
    """Commands, recipe, and what came of it."""
    started = seen.run.started
    if started:
        yield Code(command(started.command), tell(COMMAND))
    groups = settings_of(seen.run)
    trained = seen.run.of(Trained)
    if "train" not in groups and not trained:
        yield Prose(tell(NOT_TRAINED))
        return
    if seen.pair:
        yield Prose(tell(RECIPE_OF_PAIR, file=seen.pair.name))
        return
    if script(seen):
        yield Code(script(seen), tell(SCRIPT))
    settings = started.experiment if started else {}
    rows = tuple((Value(": ".join(keys).replace("_", " ")), Value(listed(value))) for keys, value in leaves(settings)
                 if value is not None and keys[0] in RECIPE_GROUPS)
    trainings = words("arm", "steps", "batch", "seconds", "loss, mean of the last tenth")
    yield from some(table_of(tell(RECIPE), words("setting", "value"), rows), table_of(tell(TRAININGS), trainings, (
        (Value(seen.label(one.arm), slot=one.arm), Value(count(one.steps)), Value(str(one.batch_size)),
         Value(number(one.seconds)) if one.seconds is not None else missing(tell(NO_SECONDS)),
         Value(number(one.loss)) if one.loss is not None else missing(tell(NO_LOSS))) for one in trained)))


def command(typed: Sequence[str]) -> str:
    """A command as others type it, who have the interpreter elsewhere."""
    first, *rest = typed or ("python",)
    return shlex.join(["python" if PurePath(first).name.startswith("python") else first, *rest])


def script(seen: RunView) -> str:
    """The command that trains each arm by itself, with the recipe's own numbers."""
    preset, batch = seen.setting("preset"), seen.batch_sizes.get("train")
    images = seen.run.last(DatasetRecorded)
    if not isinstance(preset, str) or not batch or not images:
        return ""
    return "\n".join(
        shlex.join(["python", "-m", "impls.train", "--backend", arm.name, "--preset", preset, "--dataset_name",
                    images.name, "--batch_size", str(batch)]) for arm in seen.arms)


def listed(value: Any) -> str:
    """A setting as text."""
    return ", ".join(map(plain, value)) if isinstance(value, list) else plain(value)


def test(pack: Pack) -> Iterator[Piece]:
    """Distances of drawn images to real ones."""
    seen = pack.seen
    rows = tuple(
        (Value(f"{one.label}, {figure.metric}"), Value(seen.label(one.arm), slot=one.arm), Value(one.cell),
         measured(figure), Value(count(one.images)))
        for one in seen.run.of(Quality) for figure in one.figures)
    if not rows:
        yield Prose(tell(NO_TEST_OF_PAIR) if seen.pair else tell(NO_TEST, command=QUALITY_COMMAND))
        return
    yield Table(tell(DISTANCES), head(*words("figure", "arm", "cell", "value and interval", "N")), rows)
    yield from from_page(pack, TEST)


def measured(figure: Figure) -> Value:
    """A figure of image quality with its interval; distances of kernels need more digits than ratios do."""
    if figure.value is None:
        return missing(shown(figure.reason) if figure.reason else tell(NOT_COMPUTED))
    if figure.ci_low is None or figure.ci_high is None:
        return Value(tell(NO_INTERVAL, value=number(figure.value, 4)))
    value, low, high = (number(one, 4) for one in (figure.value, figure.ci_low, figure.ci_high))
    return Value(WITH_INTERVAL.format(value=value, low=low, high=high))


def alignment(pack: Pack) -> Iterator[Piece]:
    """Do both compute the same?"""
    seen = pack.seen
    said = tuple(sentence(one.sentence(seen.run.arms)) for one in seen.run.of(Alignment))
    found: list[Piece] = [*([Listing(said)] if said else []), *from_page(pack, ALIGNMENT)]
    yield from found or [Prose(tell(NO_ALIGNMENT, command=PARITY_COMMAND))]


def performance(pack: Pack) -> Iterator[Piece]:
    """Ratios, then what each arm is alone."""
    found = [*some(cells.table(pack.cells)), *from_page(pack, PERFORMANCE)]
    yield from found or [Prose(tell(NO_PERFORMANCE, command=SPEED_COMMAND))]


def from_page(pack: Pack, title: str) -> Iterator[Piece]:
    """The tables and the figures of the page that belong under a heading."""
    for section in pack.page:
        for block in section.blocks:
            if isinstance(block, Table) and re.fullmatch(TABLES_FROM_PAGE[title], section.anchor):
                yield block
            elif isinstance(block, Picture) and re.fullmatch(FROM_PAGE[title], section.anchor):
                shown = pack.shown.get(block.name)
                if isinstance(shown, Shown):
                    yield Markdown(picture(pack.folder, shown))
                    yield Prose(f"{shown.alt} {shown.caption}", small=True)
                elif shown is not None:
                    yield absent(block.name, shown)


def some(*pieces: Piece | None) -> list[Piece]:
    """Those that there are."""
    return [piece for piece in pieces if piece is not None]


def wanted(page: Iterable[Section]) -> list[str]:
    """Names of the figures that belong into the section, in the order of the page."""
    return [block.name for section in page for block in section.blocks if isinstance(block, Picture)
            and any(re.fullmatch(anchor, section.anchor) for anchor in FROM_PAGE.values())]


def picture(folder: str, shown: Shown) -> Markup:
    """One figure for light and dark pages; what knows neither, or no SVG, shows the PNG."""
    return Markup(
        '<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{place}-dark.svg" type="image/svg+xml">\n'
        '<source srcset="{place}.svg" type="image/svg+xml">\n'
        '<img src="{place}.png" alt="{alt}" width="820">\n</picture>'  # English
    ).format(place=f"{folder}/{shown.name}", alt=one_line(shown.alt))
