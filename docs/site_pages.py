"""Hooks of `make docs`: pages that stand outside docs/ join the site, and links between files become links of the site.

Pages in Chinese are found and read as such. On disk every link is relative to its file, so that it works wherever the
repository is read; the site has a folder for each further language.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# File of the repository -> page of the site.
OUTSIDE = {"README.md": "index.md", "README.zh.md": "zh/index.md", "CHANGELOG.md": "changelog.md",
           "impls/README.md": "implementations.md"}
# What the theme's menu of colours looks for, and has only where code is coloured; tables that move inside themselves.
HEAD = ('<style id="hljs-light"></style><style id="hljs-dark"></style>'
        "<style>table { display: block; overflow-x: auto; }</style>")
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand elsewhere."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page."""
    return turned(markdown, source_of(page.file.src_uri))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Name the language of a page in Chinese, and let the menu of colours work."""
    if page.file.src_uri.startswith("zh/"):
        output = output.replace('<html lang="en"', '<html lang="zh-CN"', 1)
    return output.replace("</head>", f"{HEAD}</head>", 1)


def on_post_build(config: Any) -> None:
    """Put our cutting of Chinese into words in the place of the one that runs in no browser."""
    shutil.copyfile(ROOT / "docs" / "site_search.js", Path(config.site_dir) / "search" / "lunr.zh.js")


def source_of(page: str) -> str:
    """The file of the repository that a page of the site is."""
    return next((source for source, name in OUTSIDE.items() if name == page), f"docs/{page}")


def page_of(source: str) -> str:
    """The page, or other file, of the site that a file of the repository is."""
    return OUTSIDE.get(source, source.removeprefix("docs/"))


def turned(markdown: str, source: str) -> str:
    """The text of a file with links of the site: to a page that joined it, or to a file of docs/.

    A link to any other file stays as it is, which a strict build refuses.
    """

    def address(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        if target not in OUTSIDE and not target.startswith("docs/"):
            return found[1]
        return posixpath.relpath(page_of(target), posixpath.dirname(page_of(source)) or ".")

    return LINK.sub(address, markdown)
