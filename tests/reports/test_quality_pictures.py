"""Pictures and texts of quality runs come from elsewhere: nothing they hold does anything, and no path leads out."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import synthetic
import synthetic_quality
from conftest import Built
from journals import sealed
from synthetic_quality import Judged
from test_report_untrusted import Tags, does_nothing, outside_code

from reports import report as sections


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "samples/../../secret.png", "samples/link.png"])
def test_a_path_out_of_the_run_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = synthetic_quality.write_quality(tmp_path / "run", Judged(cells={"ddim-50": 50}, trainings=(None,)))
    synthetic_quality.draw(tmp_path / "secret.png", seed=0)
    (folder / "samples" / "link.png").symlink_to(tmp_path / "secret.png")
    journal = folder / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for key in ("grid", "picture"):
            if key in line:
                line[key] = name
    journal.write_text("\n".join(sealed(json.dumps(line) for line in lines)) + "\n", encoding="utf-8")
    page = sections.build(folder).read_text(encoding="utf-8")
    assert "<img" not in page and page.count("the recorded path leads out of the run folder") == 4
    assert f"]({name}" not in (folder / "report.md").read_text(encoding="utf-8")


def test_pictures_that_are_not_there_are_said_to_be_missing(tmp_path: Path) -> None:
    scenario = Judged(cells={"ddim-50": 50}, trainings=(None,), pictures=False)
    page = sections.build(synthetic_quality.write_quality(tmp_path / "run", scenario)).read_text(encoding="utf-8")
    assert "<img" not in page and page.count("the file is not there: samples/") == 4


def test_every_picture_says_what_it_shows(judged: Built) -> None:
    images = [attributes for tag, attributes in Tags(judged.html).tags if tag == "img"]
    assert len(images) == 18 and all(image["alt"] and image["width"] == "138" for image in images)
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)
    figures = [attributes for tag, attributes in Tags(judged.html).tags if attributes.get("role") == "img"]
    assert len(figures) == 8 and all(str(one["aria-label"]).startswith("FD efficientnet-lite0") for one in figures)


def test_hostile_labels_cells_and_weights_do_nothing(nasty_judged: Built) -> None:
    does_nothing(nasty_judged.html, pictures=True)
    text = outside_code(nasty_judged.markdown)
    assert "<script" not in text.lower() and not re.search(r"(?m)^# not a heading", text)
    assert not re.search(r"(?<!\\)\]\((?!figures/|samples/)", text)
    for file in (nasty_judged.folder / "figures").glob("*.svg"):
        assert "<script" not in file.read_text(encoding="utf-8").lower(), file
    assert synthetic.NASTY.replace("\n", " ") in " ".join(html.unescape(nasty_judged.html).split("\n"))
