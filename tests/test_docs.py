"""Every example in README and docs is run or validated, so that none of them rots."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.record.schema import markdown
from impls.backend import TrainerState
from impls.recipe.config import preset
from impls.store.checkpoint import save_state
from impls.tools.evaluate import options as evaluate_options
from impls.tools.sample import options as sample_options
from impls.tools.train import options as train_options

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


# Page in Chinese -> the English one that it is a translation of.
TRANSLATED = {ROOT / "README.zh.md": ROOT / "README.md",
              **{page: ROOT / "docs" / page.name for page in sorted((ROOT / "docs" / "zh").glob("*.md"))}}
FENCED = re.compile(r"^```\w+\n.*?^```", re.M | re.S)


def code_of(page: Path) -> list[str]:
    """The lines of a page's code, without comments and without what is only aligned."""
    lines = "\n".join(FENCED.findall(page.read_text(encoding="utf-8"))).splitlines()
    return [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines]


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_pages_in_chinese_have_the_commands_of_the_english_ones(page: Path) -> None:
    """Those are run and validated below, so that whoever reads Chinese types what works."""
    assert code_of(page) == code_of(TRANSLATED[page])


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_pages_in_chinese_have_the_headings_tables_and_figures_of_the_english_ones(page: Path) -> None:
    def shape(text: str) -> list[str]:
        return [found[0] for found in re.finditer(r"^#+ |^\|(?=-)|!\[", FENCED.sub("", text), re.M)]

    def figures(text: str) -> Counter[str]:
        return Counter(re.findall(r"\d[\d.,]*\d|\d", re.sub(r"\]\([^)]*\)", "", FENCED.sub("", text))))

    own, english = (one.read_text(encoding="utf-8") for one in (page, TRANSLATED[page]))
    assert shape(own) == shape(english)
    assert figures(own) == figures(english)


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_no_line_of_a_page_in_chinese_ends_where_a_browser_would_show_a_space(page: Path) -> None:
    """A line's end is a space to browsers, and Chinese has none inside of sentences."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    wide = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
    lines = r"^(?![#|]).*" + wide + r"\**\n *(?!\d+\. |- |[|#!])\**" + wide
    assert re.findall(lines, text, re.M) == []


def test_the_pages_of_method_findings_models_and_gpu_are_there_in_chinese() -> None:
    named = {page.name for page in TRANSLATED}
    assert named == {"README.zh.md", "method.md", "findings.md", "your-models.md", "gpu.md"}


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for match in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            found.append((page.name, match[1]))
    return found


def commands(prefix: str) -> list[str]:
    lines = [line.split("#")[0].strip() for _, block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith(prefix)]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an example's `logs/RUN`, `FOLDER` or `FILE` stands for: the latter is looked for, and not read yet."""
    path = tmp_path_factory.mktemp("weights") / "step-00000001.safetensors"
    save_state(path, TrainerState(1, {}, None, {}, {}), preset("tiny"))
    return str(path)


@pytest.mark.parametrize("command", commands("python run_bench.py"))
def test_bench_commands_resolve(command: str, checkpoint: str) -> None:
    words = [checkpoint if word in ("logs/RUN", "FOLDER", "FILE") else word for word in shlex.split(command)[1:]]
    done = run([sys.executable, *words, "--dry-run"])
    if "--doctor" in words:
        # It starts every framework: understood, as far as it goes with nothing that plans a run.
        assert done.returncode == 2 and "--dry-run: --doctor measures nothing" in done.stderr
    elif "--resume" in words:
        # Understood, as far as there is no such run.
        assert done.returncode == 2 and "results/RUN: not a run folder" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands("python -m impls."))
def test_tool_commands_are_understood(command: str) -> None:
    _, _, module, *words = shlex.split(command)
    known = {"impls.train": train_options, "impls.sample": sample_options, "impls.evaluate": evaluate_options}
    known[module].parse(words)


@pytest.mark.parametrize("command", [one for launcher in ("torchrun", "mpirun", "srun") for one in commands(launcher)])
def test_commands_behind_a_launcher_are_understood(command: str) -> None:
    test_tool_commands_are_understood("python " + command[command.index("-m impls.") :])


@pytest.mark.parametrize("command", commands("make "))
def test_make_targets_exist(command: str) -> None:
    done = run(["make", "-n", *command.split()[1:]])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted({" ".join(c.split()[:4]) for c in commands("python -m reports")}))
def test_report_subcommands_exist(command: str) -> None:
    done = run([sys.executable, *command.split()[1:], "--help"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "text"), blocks("json"))
def test_json_examples_are_valid_settings(page: str, text: str, tmp_path: Path) -> None:
    json.loads(text)
    (tmp_path / "example.json").write_text(text, encoding="utf-8")
    done = run([sys.executable, "run_bench.py", "--config", str(tmp_path / "example.json"), "--dry-run"])
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_examples_run(page: str, text: str) -> None:
    done = run([sys.executable, "-c", text])
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*PAGES, *TRANSLATED):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_schema_page_is_the_one_made_from_the_models() -> None:
    page = (ROOT / "docs" / "results-schema.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m harness.record.schema > docs/results-schema.md"
