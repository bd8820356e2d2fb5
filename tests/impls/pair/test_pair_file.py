"""A pair's file before anything is executed: what it must have, each fault in one line, and what is hashed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from impls.errors import UsageError
from impls.pair.file import read_pair

ROOT = Path(__file__).parents[3]
SKELETON = (ROOT / "templates" / "pair.py").read_text()
EXAMPLES = sorted((ROOT / "docs" / "examples" / "pairs").glob("*.py"))


def fault(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        read_pair(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("path", [ROOT / "templates" / "pair.py", *EXAMPLES], ids=lambda path: path.stem)
def test_the_skeleton_and_every_example_are_accepted_and_short(path):
    assert read_pair(path).path == path
    assert path.parent.name == "templates" or len(path.read_text().splitlines()) < 60


@pytest.mark.parametrize(("old", "new", "words"), [
    ("def torch_loss(model, batch):", "def torch_lost(model, batch):", "torch_lost is nothing that a pair has"),
    ("def torch_loss(model, batch):", "def _torch_loss(model, batch):", "defines no torch_loss(..., ...)"),
    ("def batch(rng):", "def batch():", "batch() is called with 1 argument, which it does not take"),
    ("def batch(rng):", "def batch(rng, *, size):", "batch() is called with 1 argument"),
    ("def jittor_model():", "def jittor_model(width):", "jittor_model() is called with 0 arguments"),
    ("def jittor_model():", "async def jittor_model():", "jittor_model() is async"),
    ("images = BATCH", "image = BATCH", "image is nothing that a pair has"),
    ("images = BATCH", "def images():\n    return 3", "images must be a setting"),
    ("images = BATCH", "outputs = None", "outputs must be a function"),
    ("import numpy as np", "import numpy as np\nimport torch.nn as nn", "line 14: imports torch for both workers"),
    ("import numpy as np", "import numpy as np\nfrom jittor import nn", "imports jittor for both workers"),
    ("def batch(rng):", "def batch(rng:", "line"),
])
def test_each_fault_is_one_line_with_file_and_function(tmp_path, old, new, words):
    assert SKELETON.count(old) == 1
    assert words in fault(tmp_path / "mine.py", SKELETON.replace(old, new))


def test_helpers_constants_defaults_and_guarded_imports_are_the_users_own_business(tmp_path):
    path = tmp_path / "mine.py"
    own = ("try:\n    import jittor\nexcept ImportError:\n    jittor = None\nWIDTH: int = 3\n_width = 4\n"
           "np.own = 3\nclass Config: pass\ndef _helper(): pass\ndef batch(rng, size=3, *rest, more=4, **others):")
    path.write_text(SKELETON.replace("def batch(rng):", own))
    read_pair(path)


def test_what_is_no_python_file_is_one_line(tmp_path):
    said = fault(tmp_path / "mine.py", b"\0")
    assert "null bytes" in said and "None" not in said
    fault(tmp_path / "mine.py", b"\xff\xfe")
    for path in (tmp_path, tmp_path / "nowhere.py"):
        with pytest.raises(UsageError, match="cannot read it"):
            read_pair(path)


def test_nothing_is_executed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SKELETON + f"\nopen({str(tmp_path / 'executed')!r}, 'w')\n")
    read_pair(path)
    assert not (tmp_path / "executed").exists()


def test_the_hash_covers_what_is_imported_from_the_folder_at_any_depth(tmp_path):
    (tmp_path / "parts" / "inner").mkdir(parents=True)
    for name, text in {"parts/__init__.py": "", "parts/layers.py": "from .inner import deep\n",
                       "parts/inner/__init__.py": "", "parts/inner/deep.py": "import helper\n",
                       "helper.py": "import mine\n", "unused.py": ""}.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "mine.py"
    own = "    from parts import layers\n    from torch import nn\n"
    path.write_text(SKELETON.replace("    from torch import nn\n", own, 1))
    found = read_pair(path)
    assert list(found.hashes)[0] == "mine.py"
    assert set(found.hashes) == {"mine.py", "parts/__init__.py", "parts/layers.py", "parts/inner/__init__.py",
                                 "parts/inner/deep.py", "helper.py"}
    assert found.hashes["helper.py"] == hashlib.sha256(b"import mine\n").hexdigest()
    (tmp_path / "unused.py").write_text("changed")
    assert read_pair(path).sha256 == found.sha256
    (tmp_path / "parts" / "inner" / "deep.py").write_text("import helper, sys\n")
    assert read_pair(path).sha256 != found.sha256
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    assert read_pair(copy / "mine.py").sha256 == read_pair(path).sha256, "the folder's own name does not count"
