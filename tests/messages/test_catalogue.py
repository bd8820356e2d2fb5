"""The catalogue: every message in both languages, nothing told that is not in it, and the same places in both."""

from __future__ import annotations

import re

import pytest

import messages
from messages import PLACE, choice, listed, paired, plural, preferred, shown, speaking, tell, words
from messages.__main__ import crooked, missing, stale
from messages.source import ENGLISH, TEMPLATES, Message, files, loose
from messages.source import messages as told


@pytest.fixture
def catalogue(monkeypatch):
    """A catalogue of its own, instead of the one that is shipped."""
    entries = {"{n} block": "{n} 个区组", "{n} blocks": "{n} 个区组", "{arm} takes {time}": "{arm} 耗时 {time}",
               "step time": "单步耗时", "{first} and {last}": "{first}和{last}",
               "{first}, {second}": "{first}、{second}",
               "{path} holds no weights": "{path} 中没有权重", "no block measured it": "没有区组测量过它"}
    monkeypatch.setattr(messages, "_catalogue", lambda chosen: entries if chosen == "zh" else {})
    messages._forms.cache_clear()
    yield entries
    messages._forms.cache_clear()


def test_every_message_has_both_languages():
    assert [f"{one.places[0]}: {one.text}" for one in missing("zh")] == []


def test_every_sentence_is_in_the_catalogue():
    assert [f"{one.place}: {one.text}" for one in loose()] == []


def test_translations_have_the_places_of_their_messages():
    assert crooked("zh") == []


def test_no_translation_is_of_a_message_that_is_gone():
    assert stale("zh") == []


def test_translations_are_chinese():
    """A message that is all names and signs may stay as it is; one of words may not."""
    known = messages._catalogue("zh")
    assert [message for message, foreign in known.items()
            if message == foreign and re.search(r"[a-z]{3,} [a-z]{3,}", PLACE.sub("", message))] == []


def test_places_are_names_without_formats():
    faults = [one for one in told() for text in (one.text, one.many) if text and PLACE.search(text)
              and re.search(r"(?<!\{)\{(?!\w+\}|\{)", text)]
    assert faults == []


def test_two_files_never_translate_a_message_differently():
    from babel.messages.pofile import read_po

    seen: dict[str, str] = {}
    for path in sorted((messages.FOLDER / "zh").glob("*.po")):
        with path.open("rb") as file:
            for entry in read_po(file):
                one = entry.id if isinstance(entry.id, str) else entry.id[0]
                said = entry.string if isinstance(entry.string, str) else entry.string[0]
                assert not one or seen.setdefault(one, said) == said, f"{path.name}: {one}"


@pytest.mark.usefixtures("catalogue")
def test_a_message_is_told_in_the_reader_s_language():
    assert tell("{arm} takes {time}", arm="jittor", time="3 ms") == "jittor takes 3 ms"
    with speaking("zh"):
        assert tell("{arm} takes {time}", arm="jittor", time="3 ms") == "jittor 耗时 3 ms"
        assert (plural(1, "block"), plural(1200, "block")) == ("1 个区组", "1\u202f200 个区组")
        assert words("step time", "unknown") == ("单步耗时", "unknown")
        assert listed(["a", "b", "c"]) == "a、b和c" and listed(["a"]) == "a" and listed([]) == ""
    assert (plural(1, "block"), plural(2, "block"), plural(2, "pass")) == ("1 block", "2 blocks", "2 passes")
    assert choice(2, "{n} run was", "{n} runs were") == "2 runs were" and listed(["a", "b"]) == "a and b"


def test_no_space_is_left_between_chinese_letters(monkeypatch):
    known = {"{a} of {b} in {c}": "在 {c} 中 {b} 的 {a}", "step": "步"}
    monkeypatch.setattr(messages, "_catalogue", lambda chosen: known if chosen == "zh" else {})
    with speaking("zh"):
        assert tell("{a} of {b} in {c}", a="步", b="jittor", c="区组") == "在区组中 jittor 的步"
        assert tell("{a} of {b} in {c}", a=3, b="甲 乙", c="x") == "在 x 中甲 乙的 3"
    with speaking("en"), paired() as pairs:
        assert tell("{a} of {b} in {c}", a=tell("step"), b="甲 乙", c="x") == "step of 甲 乙 in x"
    assert pairs["step of 甲 乙 in x"] == "在 x 中甲 乙的步"


@pytest.mark.usefixtures("catalogue")
def test_a_recorded_sentence_is_shown_by_its_form():
    assert shown("x.pt holds no weights") == "x.pt holds no weights"
    with speaking("zh"):
        assert shown("x.pt holds no weights") == "x.pt 中没有权重"
        assert shown("3 blocks") == "3 个区组" and shown("no block measured it") == "没有区组测量过它"
        assert shown("nobody knows this sentence") == "nobody knows this sentence"
        assert shown("no block measured it; 2 blocks") == "没有区组测量过它; 2 个区组"


@pytest.mark.usefixtures("catalogue")
def test_what_is_told_while_a_figure_is_drawn_is_noted_in_both_languages():
    with paired() as found:
        assert tell("{arm} takes {time}", arm=tell("step time"), time="3 ms") == "step time takes 3 ms"
    assert found == {"step time": "单步耗时", "step time takes 3 ms": "单步耗时耗时 3 ms"}
    assert tell("step time") == "step time" and len(found) == 2


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, "en"), ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "de_DE"}, "en"),
    ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_GB.UTF-8"}, "en"), ({"LANG": "en_US", "LC_MESSAGES": "zh_TW"}, "zh"),
    ({"LANG": "zh_CN", "DDPM_BENCH_LANG": "en"}, "en"), ({"LC_ALL": "", "LANG": "ZH_cn"}, "zh"),
])
def test_the_language_is_that_of_the_environment(environment, expected):
    assert preferred(environment) == expected


def source(tmp_path, monkeypatch, text: str):
    path = tmp_path / "harness" / "x.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr("messages.source.ROOT", tmp_path)
    return path


@pytest.mark.parametrize("text", [
    'print("no block measured it")', 'print(f"{arm} takes long")', 'raise UsageError(f"{path}: holds no weights")',
    'tell(f"{arm} takes long")', 'WORDS = {"a": "the machine was disturbed"}', 'tell("{x}", x="more than one word")',
])
def test_the_search_finds_what_is_not_marked(tmp_path, monkeypatch, text):
    assert len(loose(source(tmp_path, monkeypatch, text))) == 1


@pytest.mark.parametrize("text", [
    '"""A docstring of words."""', 'tell("no block measured it")', 'raise ValueError("a fault of ours here")',
    f'X = "some words of a protocol"  {ENGLISH}', 're.compile("some words here")',
    'def f(x: "some words") -> None: ...',
    'words("some words", "more words")', 'plural(n, "network call")', 'print("--flag", "one")',
])
def test_the_search_leaves_the_rest(tmp_path, monkeypatch, text):
    assert loose(source(tmp_path, monkeypatch, text)) == []


def test_the_search_reads_every_kind_of_mark(tmp_path, monkeypatch):
    path = source(tmp_path, monkeypatch, 'tell("a {b}", b=recorded("c d"))\nplural(n, "pass")\nwords("e", "f")\n'
                  'choice(n, "{n} g", "{n} h")\nX = marked("i j")\nrecorded_plural(n, "child", "children")')
    assert sorted((one.text, one.many) for one in told(path)) == sorted([
        ("a {b}", None), ("c d", None), ("{n} pass", "{n} passes"), ("e", None), ("f", None), ("{n} g", "{n} h"),
        ("i j", None), ("{n} child", "{n} children")], key=str)


def test_templates_are_read_too():
    assert {path.suffix for path in files() if path.parent == TEMPLATES} == {".html", ".md"}
    assert Message("This run holds no verdict.") in told(messages.FOLDER.parent / "templates")
