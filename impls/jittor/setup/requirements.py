"""What Jittor needs of the machine to compile itself; whatever is missing is one line that names the way out."""

# ruff: noqa: SIM112 - these are Jittor's names, in lower case

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from impls.devices import CAPABILITY
from impls.errors import UnavailableError
from impls.jittor.setup import cuda_toolkit
from messages import tell

# The release of CUDA that PyTorch's wheels are of, the driver that knows it, and what it still compiles for.
CUDA, DRIVER, OLDEST_GPU = (13, 0), 580, (7, 5)
# The only cuDNN that Jittor knows, where no stand-ins are put around it.
KNOWN_CUDNN = 8


def check_python() -> None:
    """Python, numpy and Jittor itself.

    Raises:
        UnavailableError: one of them is missing or does not go with Jittor.
    """
    check_numpy()
    check_version()
    check_installed()


def check_numpy() -> None:
    """The numpy that is imported here.

    Raises:
        UnavailableError: it is none of those that Jittor was compiled for.
    """
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) >= 2:
        raise UnavailableError(tell("Jittor reads garbage with numpy {version}: pip install 'numpy<2'",
                                    version=version))


def check_version() -> None:
    """The version of Python.

    Raises:
        UnavailableError: Jittor does not start on it.
    """
    if sys.version_info >= (3, 13):
        version = sys.version.split()[0]
        raise UnavailableError(tell("Jittor 1.3.11 does not start on Python {version}: use Python 3.10, 3.11 or 3.12",
                                    version=version))


def check_installed() -> None:
    """Jittor itself.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        importlib.metadata.version("jittor")
    except importlib.metadata.PackageNotFoundError as error:
        raise UnavailableError(tell("Jittor is not installed: pip install jittor==1.3.11.0")) from error


def compiler() -> str:
    """The C++ compiler that Jittor takes.

    Raises:
        UnavailableError: it is missing; the message says how to install it.
    """
    name = os.environ.get("cc_path") or "g++"
    if shutil.which(name) is None:
        raise UnavailableError(tell("Jittor compiles its operators with {name}: install it (Debian: apt install g++)",
                                    name=name))
    return name


def headers() -> Path:
    """The folder of Python's headers.

    Raises:
        UnavailableError: they are missing; the message says how to install them.
    """
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UnavailableError(
            tell("Jittor needs Python's headers: {include} is missing: install them (Debian: apt install "
                 "python{version}-dev)", include=include / "Python.h", version=version)
        )
    return include


def check_mpi() -> None:
    """Open MPI's compiler, without which Jittor leaves its ranks to themselves.

    Raises:
        UnavailableError: it is missing.
    """
    compiler = os.environ.get("mpicc_path") or "mpicc"
    if shutil.which(compiler) is None:
        raise UnavailableError(tell("Jittor's ranks speak by Open MPI, whose {compiler} is missing: install it "
                                    "(Debian: apt install libopenmpi-dev), or name it by mpicc_path",
                                    compiler=compiler))


def python_config() -> str:
    """The script that tells Jittor the headers' place: named explicitly, a virtual environment has none of its own.

    Raises:
        UnavailableError: there is none.
    """
    if os.environ.get("python_config_path"):
        return os.environ["python_config_path"]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folders = [
        Path(sysconfig.get_config_var("BINDIR")),
        Path(sys.base_prefix) / "bin",
        Path(sys.executable).resolve().parent,
    ]
    for folder in folders:
        for name in (f"python{version}-config", "python3-config"):
            if (folder / name).is_file():
                return str(folder / name)
    raise UnavailableError(
        tell("Jittor needs python{version}-config, which is not in {folders}: install Python's development files "
             "(Debian: apt install python{version}-dev) or set python_config_path", version=version, folders=folders[0])
    )


def nvcc() -> str:
    """The CUDA compiler that Jittor can use: one of the user's own, or that of `cuda_toolkit`.

    `nvcc_path` comes first, then the wheels, then a compiler in PATH. A compiler of CUDA 11 or 12 with cuDNN 8 is used
    as it is; one of CUDA 13 with PyTorch's libraries.

    Raises:
        UnavailableError: no GPU, a GPU or driver too old, no compiler, or one that does not go with the libraries.
    """
    newest = check_gpu()
    path = os.environ.get("nvcc_path") or None
    if path and Path(path) == cuda_toolkit.folder() / "bin" / "nvcc":
        # Set by a process that started this one.
        path = cuda_toolkit.compiler_of(cuda_toolkit.folder())
        path = None if path is None or _is_wheel(path) else path
    if path is None and not _installed(cuda_toolkit.COMPILER[0]):
        path = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if path is None:
        _check_driver(newest, CUDA)
        return str(cuda_toolkit.ready())
    version = cuda_toolkit.version_of(path)
    _check_driver(newest, (int(version.split(".")[0]), 0))
    if int(version.split(".")[0]) >= CUDA[0]:
        return str(cuda_toolkit.ready(os.path.realpath(path)))
    cudnn = cuda_toolkit.cudnn_major(path)
    if cudnn != KNOWN_CUDNN:
        raise UnavailableError(
            tell("Jittor on CUDA: {path} is CUDA {version} with cuDNN {cudnn}; Jittor 1.3.11 needs cuDNN {known} "
                 "beside it: unset nvcc_path and {install}", path=path, version=version, cudnn=cudnn, known=KNOWN_CUDNN,
                 install=cuda_toolkit.INSTALL) if cudnn else
            tell("Jittor on CUDA: {path} is CUDA {version} with no cuDNN; Jittor 1.3.11 needs cuDNN {known} beside it: "
                 "unset nvcc_path and {install}", path=path, version=version, known=KNOWN_CUDNN,
                 install=cuda_toolkit.INSTALL))
    return path


def check_gpu() -> tuple[int, int]:
    """A GPU that Jittor can compile for; the newest CUDA that its driver knows, as (major, minor).

    Raises:
        UnavailableError: no driver, no visible GPU, or one that is too old.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise UnavailableError(tell("Jittor on CUDA: no driver (libcuda.so.1 is missing): use --device cpu")) from error
    count, version = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise UnavailableError(tell("Jittor on CUDA: no GPU is visible: use --device cpu, or see CUDA_VISIBLE_DEVICES"))
    driver.cuDriverGetVersion(ctypes.byref(version))
    device, parts = ctypes.c_int(0), (ctypes.c_int(0), ctypes.c_int(0))
    for ordinal in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), ordinal)
        for part, attribute in zip(parts, CAPABILITY, strict=True):
            driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
        found = (parts[0].value, parts[1].value)
        if found < OLDEST_GPU:
            raise UnavailableError(
                tell("Jittor on CUDA: GPU {number} has compute capability {found}, CUDA {cuda} needs {least}: choose "
                     "another by CUDA_VISIBLE_DEVICES, or --device cpu", number=ordinal,
                     found=f"{found[0]}.{found[1]}", cuda=CUDA[0], least=f"{OLDEST_GPU[0]}.{OLDEST_GPU[1]}"))
    return version.value // 1000, version.value % 1000 // 10


def _check_driver(newest: tuple[int, int], needed: tuple[int, int]) -> None:
    if newest < needed:
        known = f"{newest[0]}.{newest[1]}"
        raise UnavailableError(
            tell("Jittor on CUDA: the NVIDIA driver knows CUDA up to {known}, the toolkit is CUDA {needed}: install "
                 "driver {driver} or newer, or choose --device cpu", known=known, needed=needed[0], driver=DRIVER)
            if needed[0] >= CUDA[0] else
            tell("Jittor on CUDA: the NVIDIA driver knows CUDA up to {known}, the toolkit is CUDA {needed}: install a "
                 "newer driver, or choose --device cpu", known=known, needed=needed[0]))


def _installed(wheel: str) -> bool:
    try:
        importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_wheel(nvcc: str) -> bool:
    """Whether a compiler is that of the installed wheels."""
    try:
        root = importlib.metadata.distribution(cuda_toolkit.COMPILER[0]).locate_file("nvidia")
    except importlib.metadata.PackageNotFoundError:
        return False
    return Path(nvcc).is_relative_to(Path(str(root)).resolve())
