"""`python -m harness.doctor.inside BACKEND cpu|cuda`: an interpreter looks at itself, and prints what it finds as JSON.

Everything is imported late, because any of it may be missing in the interpreter that is asked, which may be of any
version that can read this file.
"""

from __future__ import annotations

import json
import platform
import sys


def main(backend: str, device: str) -> None:
    """Print the version of Python, and what is wrong as pairs of a name and a line."""
    found = []
    try:
        from impls.registry import specs

        check = specs()[backend].prepares("ailments")
        found = [] if check is None else list(check(device))
    except ModuleNotFoundError as error:
        found = [("packages", f"module {error.name} is missing in {sys.executable}: "
                              f"{sys.executable} -m pip install ddpm-bench")]
    except (ImportError, SyntaxError) as error:
        found = [("packages", f"{type(error).__name__} in {sys.executable}: {error}: "
                              f"{sys.executable} -m pip install --force-reinstall ddpm-bench")]
    print(json.dumps({"python": platform.python_version(), "ailments": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
