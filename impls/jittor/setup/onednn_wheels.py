"""The oneDNN of the PyPI wheels, put where Jittor looks for it, so that it need not download its own."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from impls.errors import UnavailableError
from impls.store.files import replacement
from messages import tell

WHEELS = ("onednn-cpu-gomp==2022.2.1", "onednn-devel-cpu-gomp==2022.2.1")


def folder(home: Path) -> Path:
    """Where Jittor looks for oneDNN before it would download it.

    Args:
        home: as from `home.jittor_home`.
    """
    # The name is Jittor's own.
    return home / ".cache" / "jittor" / "mkl" / "dnnl_lnx_2.2.0_cpu_gomp"


def link(home: Path) -> None:
    """Point Jittor at the oneDNN of the PyPI wheels, replacing links that lead nowhere (a deleted environment).

    Args:
        home: as from `home.jittor_home`.

    Raises:
        UnavailableError: the wheels are missing or damaged.
    """
    place = folder(home)
    links = missing(place)
    if not links:
        return
    for parent in (place / "lib", place / "include"):
        if parent.is_symlink():
            parent.unlink()
        parent.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        # Replaced in one move: several processes may start at once.
        with replacement(name) as scratch:
            scratch.symlink_to(target)


def missing(place: Path) -> dict[Path, Path]:
    """The links that `place` lacks, with what they lead to; none where Jittor finds everything there.

    Raises:
        UnavailableError: as `link`.
    """
    if all((place / part).exists() for part in ("include/dnnl.hpp", "include/oneapi", "lib/libmkldnn.so")):
        return {}
    files: dict[str, Path] = {}
    for wheel in WHEELS:
        try:
            found = importlib.metadata.distribution(wheel.partition("==")[0])
        except importlib.metadata.PackageNotFoundError as error:
            raise UnavailableError(
                tell("Jittor's CPU operators need oneDNN: pip install {wheels} (or set use_mkl=0 and accept about 20 "
                     "times slower convolutions)", wheels=" ".join(WHEELS))
            ) from error
        files |= {path.name: Path(str(found.locate_file(path))).resolve() for path in found.files or ()}
    library = files.get("libdnnl.so.2")
    header = files.get("dnnl.hpp")
    if library is None or header is None or not library.exists() or not header.exists():
        raise UnavailableError(tell("oneDNN's files are missing: pip install --force-reinstall {wheels}",
                                    wheels=" ".join(WHEELS)))
    # dnnl.hpp exists twice: include/ has forwarders, include/oneapi/dnnl/ the real ones.
    include = header.parents[2] if header.parent.name == "dnnl" else header.parent
    links = {place / "lib" / name: library for name in ("libmkldnn.so", "libdnnl.so.2")}
    links |= {place / "include" / path.name: path for path in include.glob("dnnl*.h*")}
    links[place / "include" / "oneapi"] = include / "oneapi"
    return links
