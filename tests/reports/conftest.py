"""Synthetic runs, built once for all tests that only read the pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import synthetic
import synthetic_quality
import synthetic_sampling

from harness.record.run import read_run
from reports import report as sections
from reports.page import figures


@dataclass(frozen=True)
class Built:
    folder: Path
    html: str
    markdown: str


def build(folder: Path, scenario: synthetic.Scenario) -> Built:
    if isinstance(scenario, synthetic_quality.Judged):
        page = sections.build(synthetic_quality.write_quality(folder, scenario))
    elif isinstance(scenario, synthetic_sampling.Sampling):
        page = sections.build(synthetic_sampling.write_sampling(folder, scenario))
    else:
        page = sections.build(synthetic.write_run(folder, scenario))
    return Built(folder, page.read_text(encoding="utf-8"), (folder / "report.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="session", autouse=True)
def figures_fail_aloud() -> Iterator[None]:
    """A figure that cannot be drawn is told in its place; in a test it is a defect."""
    def raised(error: Exception) -> str:
        raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "undrawn", raised)
        yield


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic.Scenario(blocks=4, pairs=12, findings=synthetic.FINDINGS)
    return build(tmp_path_factory.mktemp("reports") / "train-speed-synthetic", scenario)


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic_sampling.Sampling(findings=synthetic.FINDINGS)
    return build(tmp_path_factory.mktemp("reports") / "sample-speed-synthetic", scenario)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic_quality.Judged(findings=synthetic.FINDINGS)
    return build(tmp_path_factory.mktemp("reports") / "quality-synthetic", scenario)


@pytest.fixture(scope="session")
def bilingual(
    tmp_path_factory: pytest.TempPathFactory, built: Built, sampled: Built, judged: Built
) -> dict[str, Path]:
    """Folders of runs whose reports are there in both languages."""
    folders = {}
    for kind, one in {"training": built, "sampling": sampled, "quality": judged}.items():
        folders[kind] = shutil.copytree(one.folder, tmp_path_factory.mktemp("bilingual") / one.folder.name)
        sections.write(read_run(folders[kind]), both=True)
    return folders


@pytest.fixture(scope="session")
def nasty_judged(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic_quality.Judged(
        arms=(synthetic.NASTY, "jittor"),
        cells={"ddim-10": 10, synthetic.NASTY: 20},
        label=synthetic.NASTY,
        dataset=synthetic.NASTY,
        weights=synthetic.NASTY,
        warnings=(synthetic.NASTY,),
        untimed="B",
        fail="B",
        end="failed",
    )
    return build(tmp_path_factory.mktemp("reports") / "nasty-judged", scenario)


@pytest.fixture(scope="session")
def nasty_sampled(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic_sampling.Sampling(
        arms=(synthetic.NASTY, "jittor"),
        blocks=3,
        pairs=2,
        cells={"ddim-10": 10, synthetic.NASTY: 20},
        weights=synthetic.NASTY,
        agreement_passed=False,
    )
    return build(tmp_path_factory.mktemp("reports") / "nasty-sampled", scenario)


@pytest.fixture(scope="session")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Built:
    scenario = synthetic.Scenario(
        arms=(synthetic.NASTY, "jittor"),
        blocks=4,
        pairs=4,
        fail="B",
        end="failed",
        findings=[
            synthetic.Finding(severity="warning", code="x", message=synthetic.NASTY, advice=synthetic.NASTY, arm="A")
        ],
        command=["python", "run_bench.py", "--out", "my results; rm -rf '$HOME'", synthetic.NASTY],
        log_tail=["```", synthetic.NASTY, "\x1b[31mred\x1b[0m"],
    )
    return build(tmp_path_factory.mktemp("reports") / "nasty", scenario)
