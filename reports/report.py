"""The report in its order: what is said first, what supports it, what to distrust, how to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.record.run import RecordedRun, joined, read_run
from harness.record.writer import write_atomically
from impls.errors import UsageError
from messages import TAGS, Language, paired, speaking, tell
from reports.chapters.chapter import Chapter, Timed
from reports.chapters.evidence import findings, machine, method, reference, trust
from reports.chapters.measured import load, telemetry
from reports.page import render
from reports.page.blocks import Elsewhere, Report, Section, Table, section
from reports.page.figures import FigureMaker
from reports.page.forest import Forest, on_one_scale
from reports.page.relabelled import Dictionary, Relabelled
from reports.suites.registry import chapters_of, notes_of, whole
from reports.text import commas, utc
from reports.view.run import RunView, copies

# Of the files; those in Chinese beside English ones have this before their endings.
NAME, CHINESE = "report", ".zh"
# Languages as they call themselves.
OWN_NAMES: Mapping[Language, str] = {"en": "English", "zh": "中文"}


def build(run_dir: Path, png: bool = False) -> Path:
    """Build the report of a run folder from its journal.

    Args:
        run_dir: the run folder.
        png: also write the figures as PNG.

    Returns:
        the path of `report.html`.

    Raises:
        UsageError: no readable journal there, or the folder cannot be written.
    """
    return write(read_run(run_dir), png)


def write(run: RecordedRun, png: bool = False, both: bool = False) -> Path:
    """Write `report.html` (self-contained), `report.md` (the same facts) and `figures/` of a run that has been read.

    Args:
        run: the run.
        png: also write the figures as PNG.
        both: write it in English and, from figures that are drawn once, as `report.zh.html` and so on in Chinese;
            else in the reader's language.

    Returns:
        the path of `report.html`.

    Raises:
        UsageError: the folder cannot be written.
    """
    figures = FigureMaker(run.path / "figures", png=png)
    try:
        (run.path / "figures").mkdir(exist_ok=True)
        if both:
            _write_both(run, figures)
        else:
            _write(NAME, run.path, report_of(run, figures))
    except OSError as error:
        raise UsageError(tell("{path}: cannot write the report: {reason}", path=run.path,
                              reason=error.strerror or error)) from error
    return run.path / "report.html"


def _write_both(run: RecordedRun, figures: FigureMaker) -> None:
    with speaking("en"), paired(run.arms.values()) as pairs:
        report = report_of(run, figures)
        _write(NAME, run.path, replace(report, elsewhere=Elsewhere(f"{NAME}{CHINESE}", TAGS["zh"], OWN_NAMES["zh"])))
    with speaking("zh"):
        again = Relabelled(figures.folder, drawn=figures.drawn, told=Dictionary(pairs), suffix=CHINESE)
        # What a run has remembered is English.
        report = report_of(replace(run), again)
        _write(f"{NAME}{CHINESE}", run.path, replace(report, elsewhere=Elsewhere(NAME, TAGS["en"], OWN_NAMES["en"])))


def _write(name: str, folder: Path, report: Report) -> None:
    write_atomically(folder / f"{name}.md", render.markdown(report))
    write_atomically(folder / f"{name}.html", render.html(report))


def report_of(run: RecordedRun, figures: FigureMaker) -> Report:
    """The whole report of a run."""
    seen = whole(run)
    started = run.started
    names = title_names(seen) or tell("no arm recorded")
    suite = started.suite if started else tell("unknown suite")
    when = utc(started.started_utc) if started else tell("start time n/a: the journal's first line cannot be read")
    parts = chapters_of(seen)
    return Report(
        tell("{name}: {value}", name=names, value=suite),
        when,
        run.path.name,
        run.status,
        tuple(card for chapter, part in parts for card in chapter.cards(part)),
        notes_of(seen, parts),
        (
            *(one for chapter, part in parts for one in own_sections(chapter, part, figures)),
            *(one for one in shared_sections(seen, parts, figures) if one),
        ),
        forests=on_one_scale([one for chapter, part in parts for one in forests_of(chapter, part)]),
        quoted=tuple(one for chapter, part in parts if (one := quoted_of(chapter, part))),
    )


def forests_of(chapter: Chapter, part: RunView) -> list[Forest]:
    """The ratios of one part; of several timed ones, named after it."""
    found = list(chapter.forests(part))
    return found if part.alone else [replace(one, title=named(chapter, one.title)) for one in found]


def quoted_of(chapter: Chapter, part: RunView) -> Table | None:
    """The figures that people quote of one part; of several timed ones, named after it."""
    found = chapter.quoted(part)
    return found if part.alone or found is None else replace(found, caption=named(chapter, found.caption))


def named(chapter: Chapter, title: str) -> str:
    """A title that says of which part it is."""
    return tell("{part}: {title}", part=tell(chapter.part).capitalize(), title=lowered(title))


def own_sections(chapter: Chapter, part: RunView, figures: FigureMaker) -> list[Section]:
    """What one part tells; of several timed ones, whose sections and figures have the same names, named after it."""
    if part.alone or not isinstance(chapter, Timed):
        return [one for one in chapter.sections(part, figures) if one]
    prefix = f"{chapter.part}-"
    return [
        replace(one, anchor=f"{prefix}{one.anchor}", title=named(chapter, one.title))
        for one in chapter.sections(part, replace(figures, prefix=prefix))
        if one
    ]


def lowered(title: str) -> str:
    """A title inside a sentence."""
    return title[:1].lower() + title[1:]


def shared_sections(
    seen: RunView, parts: list[tuple[Chapter, RunView]], figures: FigureMaker
) -> Iterable[Section | None]:
    """What is told of any run, whatever its parts."""
    timed = [(chapter, part) for chapter, part in parts if isinstance(chapter, Timed)]
    others = [(chapter, part) for chapter, part in parts if not isinstance(chapter, Timed)]
    if len(timed) > 1:
        yield Section("timeline", tell("Timeline"), load.told(seen, figures))
        yield telemetry.section(seen, figures)
    if timed:
        yield trust.section(seen)
    yield findings.failed(seen)
    yield section("blocks", tell("Blocks"), findings.blocks(seen), folded=True)
    yield section("arms", tell("What differs between the arms"), machine.differences(seen))
    facts = (machine.environment(seen), machine.data_and_settings(seen))
    yield section("environment", tell("Environment"), *facts, folded=True)
    # About the U-Net, all of it.
    published = dict.fromkeys(one for chapter, _ in timed for one in chapter.published) if not seen.pair else {}
    if published:
        yield reference.section(list(published), timed[0][0].remark)
    yield method.section(
        seen,
        [text for chapter, part in others for text in chapter.method(part)],
        [text for chapter, part in timed for text in chapter.method(part)] if timed else None,
        dict.fromkeys(text for chapter, _ in timed or others for text in chapter.limits(seen)),
    )


def title_names(seen: RunView) -> str:
    """The arms for the title, those together that are compared; the copies that a self-check adds are left out."""
    checks = copies(seen)
    names = {arm.slot: arm.name if checks else arm.label for arm in seen.arms if arm.slot not in checks}
    return commas(tell(" against ").join(names[slot] for slot in group) for group in groups(seen, list(names)))


def groups(seen: RunView, slots: Sequence[str]) -> list[list[str]]:
    """The slots of these that the run's comparisons join; all in one where it declared none."""
    if not seen.compared:
        return [list(slots)]
    return [list(group) for group in joined(slots, [(one.slot, other.slot) for one, other in seen.compared])]
