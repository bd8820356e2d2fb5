"""The font of Chinese letters: it holds all that the catalogue needs, in few bytes, with its licence."""

from __future__ import annotations

import pytest

from messages import _catalogue, font, speaking
from reports.page import font as used

FOLDER = used.FILE.parent


def test_every_chinese_letter_of_the_catalogue_is_in_the_font():
    missing = font.letters() - set(map(chr, used.known()))
    assert not missing, f"{''.join(sorted(missing))}: python -m messages.font makes the font again"
    assert font.letters() >= font.chinese("".join(_catalogue("zh").values())) and "，" in font.letters()


def test_the_font_is_small_and_has_its_licence_and_the_name_that_pages_know():
    assert used.FILE == font.MADE and used.FILE.stat().st_size < 500_000 and used.FAMILY == font.FAMILY
    licence = (FOLDER / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence and "Adobe" in licence
    names = used._opened()["name"]
    assert {names.getDebugName(number) for number in (1, 4)} == {font.FAMILY}


def test_letters_and_latin_are_told_apart():
    assert font.chinese("单步耗时 3 ms，A：B“x”") == set("单步耗时，：“”")


@pytest.mark.skipif(not font.SOURCE.exists(), reason="Debian's fonts-noto-cjk is not installed")
def test_the_same_letters_make_the_same_font(tmp_path, monkeypatch):
    made = []
    for name in ("a", "b"):
        monkeypatch.setattr(font, "MADE", tmp_path / name / "fonts" / "x.otf")
        monkeypatch.setattr(font, "letters", lambda: set("单步耗时"))
        (tmp_path / name).mkdir()
        made.append(font.make().read_bytes())
    assert made[0] == made[1] and 1000 < len(made[0]) < 10_000


def test_a_text_brings_along_the_letters_that_it_has_and_english_none():
    assert used.face("单步耗时") == "" == used.style("单步耗时")
    with speaking("zh"):
        few, more = used.face("单步 and 耗时"), used.face("单步耗时与区组的结论")
        assert few.startswith("@font-face{font-family:'ddpm-bench CJK';src:url(data:font/otf;base64,")
        assert len(few) < len(more) < 20_000 and used.face("step time") == ""
        assert used.stack().index("ddpm-bench CJK") < used.stack().index("system-ui") and "unicode-range" in few
    ranges = [part.removeprefix("U+").split("-") for part in used.RANGE.split(",")]
    assert all(any(int(one[0], 16) <= ord(letter) <= int(one[-1], 16) for one in ranges) for letter in font.letters())


def test_a_chinese_figure_is_drawn_with_letters_of_ours():
    from matplotlib.figure import Figure

    from reports.page.plotting import raster, style_context

    with speaking("zh"), style_context():
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, "单步耗时 step", weight="bold")
        # A letter that no font has would be a warning, and those are errors here.
        assert raster(figure).startswith(b"\x89PNG")


def test_fonts_are_shipped():
    assert '"reports.page" = ["fonts/*"]' in (FOLDER.parents[2] / "pyproject.toml").read_text(encoding="utf-8")
