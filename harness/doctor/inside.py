"""`python -m harness.doctor.inside BACKEND cpu|cuda`: an interpreter looks at itself, and prints what it finds as JSON.

Everything is imported late, because any of it may be missing in the interpreter that is asked, which may be of any
version that can read this file.
"""

from __future__ import annotations

import json
import platform
import sys


def main(backend: str, device: str) -> None:
    """Print the version of Python, and what is wrong as pairs of a name and a line, in English."""
    python, version = sys.executable, platform.python_version()
    found: list[tuple[str, str]] = []
    try:
        from messages import recorded
    except (ImportError, SyntaxError):
        # A Python too old for it, of which its version tells all.
        print(json.dumps({"python": version, "ailments": found}))
        return
    try:
        from impls.registry import specs

        check = specs()[backend].prepares("ailments")
        found = [] if check is None else list(check(device))
    except ModuleNotFoundError as error:
        found = [(recorded("packages"), recorded(
            "module {module} is missing in {python}: {python} -m pip install ddpm-bench", module=error.name,
            python=python))]
    except (ImportError, SyntaxError) as error:
        found = [(recorded("packages"), recorded(
            "{kind} in {python}: {error}: {python} -m pip install --force-reinstall ddpm-bench",
            kind=type(error).__name__, python=python, error=error))]
    print(json.dumps({"python": version, "ailments": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
