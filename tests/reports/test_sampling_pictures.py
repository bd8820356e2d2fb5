"""Sampled images: what is a picture of the run folder is shown, and nothing else the journal may name."""

from __future__ import annotations

import base64
import html
import os
import re
import struct
from pathlib import Path

import pytest
import synthetic
import synthetic_sampling
from conftest import Built
from journals import sealed
from synthetic_sampling import Sampling, draw
from test_report_untrusted import Tags, does_nothing, outside_code

from harness.record.events import SamplesDrawn
from harness.record.run import read_run
from reports import report as sections
from reports.page import images as pictures
from reports.page import render
from reports.suites.sampling.sections import pictures as sampled_pictures
from reports.view.run import view


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "run"
    (inner / "samples").mkdir(parents=True)
    draw(inner / "samples" / "a.png", inner / "samples" / "a.gif")
    return inner


def test_grids_and_animations_are_embedded_as_they_are(sampled: Built) -> None:
    images = [attributes for tag, attributes in Tags(sampled.html).tags if tag == "img"]
    assert len(images) == 4
    for image, name in zip(images, ("grid-A.png", "grid-B.png", "denoising-A.gif", "denoising-B.gif"), strict=True):
        kind, data = (image["src"] or "").split(";base64,")
        assert kind == f"data:image/{name[-3:]}"
        assert base64.b64decode(data) == (sampled.folder / "samples" / name).read_bytes()
        assert (image["width"], image["height"]) == ("138", "138")
        assert image["alt"] and image["alt"].startswith("16 images ") and "DDIM with 10 network calls" in image["alt"]
    linked = re.findall(r"!\[[^\n]*?\]\((samples/[^)]+)\)", sampled.markdown)
    assert len(linked) == 4 and all((sampled.folder / name).is_file() for name in linked)


def test_a_picture_is_read_with_its_size(folder: Path) -> None:
    grid, gif = pictures.load(folder, "samples/a.png"), pictures.load(folder, "samples/a.gif")
    assert isinstance(grid, pictures.File) and isinstance(gif, pictures.File)
    assert (grid.mime, grid.width, grid.height, grid.link) == ("image/png", 138, 138, "samples/a.png")
    assert (gif.mime, gif.width, gif.height) == ("image/gif", 138, 138)


@pytest.mark.parametrize("name", ["../secret.png", "samples/../../secret.png", "/etc/passwd", "samples/link.png", "."])
def test_a_path_out_of_the_run_folder_is_refused(name: str, folder: Path) -> None:
    draw(folder.parent / "secret.png", folder.parent / "secret.gif")
    (folder / "samples" / "link.png").symlink_to(folder.parent / "secret.png")
    assert pictures.load(folder, name) == "the recorded path leads out of the run folder"


@pytest.mark.parametrize("name", ["samples/none.png", "samples", "", "samples/\0.png", "x" * 5000, "samples/pipe"])
def test_what_is_no_file_is_refused_at_once(name: str, folder: Path) -> None:
    os.mkfifo(folder / "samples" / "pipe")
    assert isinstance(pictures.load(folder, name), str)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither a PNG nor a GIF"),
        (b"<svg onload='alert(1)'></svg>", "neither a PNG nor a GIF"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "was cut off"),
        (b"GIF89a" + b"x" * 100, "was cut off"),
        (b"GIF89a" + struct.pack("<HH", 60_000, 10) + b"x" * 40 + b";", "a size that no sampled image has"),
        (b"\0" * (pictures.MOST_BYTES + 1), "more than the report has room for"),
    ],
)
def test_what_is_no_picture_is_refused(content: bytes, said: str, folder: Path) -> None:
    (folder / "samples" / "odd.png").write_bytes(content)
    found = pictures.load(folder, "samples/odd.png")
    assert isinstance(found, str) and said in found


def test_there_is_room_for_so_many_pictures_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = (folder / "samples" / "a.png").stat().st_size
    monkeypatch.setattr(pictures, "MOST_BYTES_IN_ALL", 2 * one + 1)
    events = [
        SamplesDrawn(arm="A", cell=f"ddim-{n}", seed=0, images=16, weights="w", grid="samples/a.png", why_no_gif="none")
        for n in (1, 2, 3)
    ]
    (folder / "journal.jsonl").write_text("\n".join(sealed(event.model_dump_json() for event in events)))
    shown = [item.data is not None for block in sampled_pictures(view(read_run(folder))) for item in block.items]
    assert shown == [True, False, True, False, False, False]


def test_missing_pictures_are_said_to_be_missing(tmp_path: Path) -> None:
    run = synthetic_sampling.write_sampling(tmp_path / "run", Sampling(blocks=1, pairs=1, pictures=False))
    page = sections.build(run).read_text(encoding="utf-8")
    assert "<img" not in page and page.count("the file is not there: samples/") == 4
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "](samples/" not in text and "pytorch: n/a, the file is not there: samples/grid-A.png." in text


def test_an_arm_that_is_there_twice_is_shown_once(tmp_path: Path) -> None:
    scenario = Sampling(arms=("pytorch",) * 2, blocks=1, pairs=1)
    run = synthetic_sampling.write_sampling(tmp_path / "run", scenario)
    journal = run / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not ('"type":"samples"' in line and '"arm":"B"' in line)]
    journal.write_text("\n".join(kept), encoding="utf-8")
    assert [len(block.items) for block in sampled_pictures(view(read_run(run)))] == [1, 1]


def test_an_arm_without_an_animation_says_why(folder: Path) -> None:
    event = SamplesDrawn(arm="A", cell="ddim-10", seed=0, images=16, weights="w", grid="samples/a.png",
                         why_no_gif="only 1 image was asked for")  # fmt: skip
    (folder / "journal.jsonl").write_text(*sealed([event.model_dump_json()]))
    grids, animations = sampled_pictures(view(read_run(folder)))
    assert grids.items[0].data and animations.items[0].reason == "only 1 image was asked for"


def test_hostile_names_of_cells_weights_and_files_do_nothing(nasty_sampled: Built) -> None:
    does_nothing(nasty_sampled.html, pictures=True)
    text = outside_code(nasty_sampled.markdown)
    assert "<script" not in text.lower() and not re.search(r"(?m)^# not a heading", text)
    assert not re.search(r"(?<!\\)\]\((?!figures/|samples/)", text)
    whole = " ".join(html.unescape(nasty_sampled.html).split("\n"))
    assert f"cell {synthetic.NASTY.splitlines()[0]}" in whole


@pytest.mark.parametrize("name", ["a (1).png", "a](http:x).png", "ü.png", "a`b*.png", "javascript:x.png"])
def test_odd_file_names_stay_inside_their_link(name: str, folder: Path) -> None:
    (folder / "samples" / name).write_bytes((folder / "samples" / "a.png").read_bytes())
    file = pictures.load(folder, f"samples/{name}")
    assert isinstance(file, pictures.File)
    assert re.fullmatch(r"samples/[A-Za-z0-9._%-]+", str(render.address(file.link)))
