"""How numbers are written: oracles by hand."""

import math

import pytest

from reports import text
from reports.view.words import level_words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (123.456, "123"),
        (99.96, "100"),
        (1.2345, "1.23"),
        (0.012345, "0.0123"),
        (12345.6, "12\N{NARROW NO-BREAK SPACE}346"),
        (3.1e-6, "3.10e\N{MINUS SIGN}6"),
        (-2.5, "\N{MINUS SIGN}2.50"),
        (math.nan, "n/a"),
        (math.inf, "n/a"),
        (None, "n/a"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("ns", "shown"),
    [(999, "999 ns"), (1_500, "1.50 µs"), (119_400_000, "119 ms"), (2_840_000_000, "2.84 s"), (438e9, "7.30 min")],
)
def test_durations_take_the_unit_that_fits(ns: float, shown: str) -> None:
    assert text.duration(ns) == shown


@pytest.mark.parametrize(
    ("ratio", "low", "high", "shown"),
    [
        (2.9312, 2.8812, 2.9912, "2.931 [2.881, 2.991]"),
        (1.001234, 0.999, 1.0035, "1.0012 [0.9990, 1.0035]"),
        (3.0, 1.0, 9.0, "3.00 [1.00, 9.00]"),
        (1.5, None, None, "1.500 (no interval)"),
        (None, None, None, "n/a"),
        (math.nan, 1.0, 2.0, "n/a"),
    ],
)
def test_a_ratio_shows_as_many_digits_as_its_interval_deserves(
    ratio: float | None, low: float | None, high: float | None, shown: str
) -> None:
    assert text.with_interval(ratio, low, high) == shown


def test_small_shares_keep_their_digits_and_zero_is_not_noise() -> None:
    assert text.percent(0.231) == "23 %"
    assert text.percent(0.0021) == "0.21 %"
    assert text.percent(1.234) == "123 %"
    assert text.percent(0.0) == "0.00 %"
    assert text.signed_percent(0.035) == "+3.5 %"
    assert text.signed_percent(-0.035) == "\N{MINUS SIGN}3.5 %"


def test_sizes_change_unit_before_they_need_four_digits() -> None:
    assert text.size(830 * 2**20) == "830 MiB"
    assert text.size(1000 * 2**20) == "0.977 GiB"
    assert text.size(None) == "n/a"


def test_printable_drops_terminal_colours_control_characters_and_text_that_turns_around() -> None:
    assert text.printable("\x1b[31mred\x1b[0m\x07 \u202egnp") == "red\N{REPLACEMENT CHARACTER} gnp"


@pytest.mark.parametrize(
    ("alpha", "shown"),
    [(0.05, "95"), (0.0225, "97.75"), (0.05 / 3, "98.33"), (0.01, "99"), (0.0015, "99.85"), (0.0015 / 49, "99.9969"),
     (1e-7, "99.99999")],
)  # fmt: skip
def test_no_interval_is_certain(alpha: float, shown: str) -> None:
    """Many comparisons at an early look leave little alpha for each."""
    assert level_words(alpha, None) == f"{shown} % interval"
