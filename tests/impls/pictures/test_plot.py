"""Figures look the same whatever somebody has set for theirs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from impls.pictures.curve import save_curve
from impls.pictures.plot import imported, style

ROOT = Path(__file__).parents[3]
CODE = """
import hashlib, os, sys
from pathlib import Path
from impls.pictures.curve import save_curve
save_curve(Path(sys.argv[1]), [1, 2, 3], [3.0, 2.0, 1.0], [])
assert os.environ.get("MPLBACKEND") == sys.argv[2] or sys.argv[2] == "-"
"""


@pytest.mark.parametrize("foreign", ["notebook", "nowhere", "folder's own"])
def test_foreign_settings_change_nothing(tmp_path, foreign):
    plain = tmp_path / "plain.png"
    save_curve(plain, [1, 2, 3], [3.0, 2.0, 1.0], [])
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://nowhere\nfont.family: Comic Sans MS\n")
    # What a notebook hands on to every process that is started in it.
    backend = "module://matplotlib_inline.backend_inline"
    home = {"HOME": str(Path.home())}
    more = {"notebook": {"MPLBACKEND": backend, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), **home},
            # Nothing can be made in /proc, whoever one is.
            "nowhere": {"MATPLOTLIBRC": "/nowhere", "MPLCONFIGDIR": "/proc/none", "HOME": "/proc/none"},
            "folder's own": home}[foreign]
    done = subprocess.run([sys.executable, "-c", CODE, "foreign.png", more.get("MPLBACKEND", "-")], check=False,
                          cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **more},
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(tmp_path / "foreign.png") == digest(plain)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_style_lasts_no_longer_than_its_figure(tmp_path):
    save_curve(tmp_path / "a.png", [1], [1.0], [])
    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "red", "backend": "svg"}):
        save_curve(tmp_path / "b.png", [1], [1.0], [])
        with style({"figure.facecolor": "blue"}):
            assert (mpl.rcParams["figure.facecolor"], mpl.rcParams["text.usetex"]) == ("blue", False)
        assert (mpl.rcParams["figure.facecolor"], mpl.rcParams["text.usetex"]) == ("red", True)
    assert digest(tmp_path / "a.png") == digest(tmp_path / "b.png")


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("MATPLOTLIBRC", raising=False)
    assert imported() is mpl
    assert os.environ["MPLBACKEND"] == "agg" and "MATPLOTLIBRC" not in os.environ


MANUAL = """
import sys
from impls.pictures.plot import imported
imported(manual=sys.argv[1] == "with")
from matplotlib.lines import Line2D
line = Line2D([0, 1], [0, 1])
line.set(linewidth=3, ls="--")
assert line.get_linewidth() == 3 and line.get_linestyle() == "--"
print("markeredgewidth" in (Line2D.set.__doc__ or ""))
"""


@pytest.mark.parametrize("wanted", ["with", "without"])
def test_manuals_of_what_is_drawn_with_are_written_only_where_they_are_wanted(wanted):
    done = subprocess.run([sys.executable, "-c", MANUAL, wanted], check=False, cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert (done.stderr, done.stdout.strip()) == ("", str(wanted == "with"))
