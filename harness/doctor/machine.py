"""What is wrong with the machine itself, whichever framework runs on it: system, WSL, disk, driver."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.machine import gpu
from harness.machine.files import ROOT, SystemFiles
from harness.options import DeviceChoice
from impls.devices import has_driver
from messages import shown, tell

GIB = 1 << 30
# Jittor's core and kernels take a tenth of that, its CUDA kernels and the data sets the rest.
CACHE_GIB, TEMPORARY_GIB, RESULTS_GIB = 2.0, 0.5, 0.1
WSL_DRIVER = Path("usr/lib/wsl/lib/libcuda.so.1")


class Ailment(NamedTuple):
    """One thing that is wrong.

    Attributes:
        where: what it is about.
        text: its cause, then the command that mends it, on one line.
    """

    where: str
    text: str


def ailments(device: DeviceChoice, out: Path, files: SystemFiles, environ: Mapping[str, str]) -> Iterator[Ailment]:
    """Everything that is wrong.

    Args:
        device: what was asked for.
        out: where results go.
        files: the system's.
        environ: environment variables.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        yield Ailment(tell("system"), tell(
            "this is {system} on {machine}, and Jittor's libraries are for Linux on x86-64: docker build --platform "
            "linux/amd64 -t ddpm-bench {root}", system=system, machine=machine, root=ROOT))
    yield from _wsl(files, environ)
    yield from _disk(out)
    if device != "cpu":
        yield from _driver(device, files)


def _wsl(files: SystemFiles, environ: Mapping[str, str]) -> Iterator[Ailment]:
    """Windows below: its first edition has no Linux kernel, its second keeps the driver in a place of its own."""
    kernel = files.text("proc/version") or ""
    if "microsoft" not in kernel.lower():
        return
    if "-Microsoft" in kernel:
        yield Ailment("WSL", tell("this is WSL 1, which has no GPU, and files too slow to measure on: wsl.exe "
                                  "--set-version {name} 2", name=environ.get("WSL_DISTRO_NAME", "DISTRIBUTION")))
    elif files.exists(WSL_DRIVER) and not has_driver():
        yield Ailment("WSL", tell("Windows' driver is not in the loader's path: export LD_LIBRARY_PATH=/{folder}",
                                  folder=WSL_DRIVER.parent))
    if str(Path.home()).startswith("/mnt/"):
        yield Ailment("WSL", tell("HOME={home} is a drive of Windows, without locks and rights: export HOME=/root",
                                  home=Path.home()))


def _disk(out: Path) -> Iterator[Ailment]:
    """Room for caches, temporary files and results; of places on one disk the first that lacks it."""
    told = set()
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:
        yield Ailment(tell("disk"), tell("no temporary folder can be written ({error}): export TMPDIR=/a/folder",
                                         error=error.strerror))
    places = ((Path.home() / ".cache", CACHE_GIB, tell("compiled code"), tell("export HOME=/a/folder/with/room")),
              (temporary, TEMPORARY_GIB, tell("temporary files"), tell("export TMPDIR=/a/folder/with/room")),
              (out.absolute(), RESULTS_GIB, tell("results"), tell("give --out /a/folder/with/room")))
    for place, least, what, advice in places:
        if place is None:
            continue
        there = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(there).free / GIB
        if free < least and there.stat().st_dev not in told:
            told.add(there.stat().st_dev)
            yield Ailment(tell("disk"), tell(
                "{free} GiB are free in {folder} for {what}, which need {least}: {advice}", free=f"{free:.2f}",
                folder=there, what=what, least=f"{least:.1f}", advice=advice))


def _driver(device: DeviceChoice, files: SystemFiles) -> Iterator[Ailment]:
    """A GPU that nothing can use; a machine without one is in order, unless it is asked for."""
    fault = gpu.fault()
    hardware = files.nvidia_gpus()
    if fault is None or (device == "auto" and not hardware and not has_driver()):
        return
    said = shown(fault)
    if not has_driver():
        said = (tell("{fault}: sudo apt install nvidia-driver-580", fault=said) if hardware else
                tell("{fault}: choose --device cpu", fault=said))
    yield Ailment(tell("driver"), said)
