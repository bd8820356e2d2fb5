"""Jinja's side of the catalogue: its templates write places as %(name)s, the catalogue as {name}."""

from __future__ import annotations

import re

from jinja2 import Environment

from messages import TAGS, language, tell


def install(environment: Environment) -> None:
    """Let templates speak the reader's language; an environment with the extension jinja2.ext.i18n.

    What templates put into places is escaped; what a translator wrote is not.
    """
    environment.globals.update(language=lambda: TAGS[language()])
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        lambda text: written(tell(read(text))), lambda one, many, n: written(tell(read(one if n == 1 else many))),
        newstyle=True)


def read(text: str) -> str:
    """A template's text as the catalogue has it."""
    return re.sub(r"%\((\w+)\)s", r"{\1}", text).replace("%%", "%")


def written(text: str) -> str:
    """A text of the catalogue as templates have it."""
    return re.sub(r"\{(\w+)\}", r"%(\1)s", text.replace("%", "%%"))
