"""The CUDA toolkit that Jittor compiles with: one folder, put together from PyTorch's wheels and a compiler.

Jittor 1.3.11 was written for CUDA 12 and cuDNN 8; PyTorch's wheels hold CUDA 13 and cuDNN 9. Links to their files, and
five small stand-ins for what the newer releases dropped, let one environment serve both. Nothing installed is touched.
"""  # English

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from impls.data.array_cache import default_folder
from impls.devices import TF32_SWITCH
from impls.errors import UnavailableError, cause
from impls.store.files import replacement, staging
from messages import tell

# What is linked: the release of CUDA is that of the first one.
LIBRARIES = ("nvidia-cuda-runtime", "nvidia-cublas", "nvidia-curand", "nvidia-cufft", "nvidia-cusparse")
CUDNN = "nvidia-cudnn-cu13"
COMPILER = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-cccl")
INSTALL = "pip install 'ddpm-bench[cuda]'"  # English
# Raised when what is written below changes: a folder of an older format is built anew, and kernels are compiled anew.
FORMAT = 2
MANIFEST = "manifest.json"
# Names the C++ compiler that the folder's compiler was last tried with.
HOST = "host-compiler"
# An empty file takes a second or two; a loaded machine many times that.
TRIAL_S = 300

# Jittor opens these by name; cuDNN 9 divided its libraries differently.
CUDNN_8_NAMES = {f"libcudnn_{part}_{way}.so": f"libcudnn_{part}.so"
                 for part in ("ops", "cnn") for way in ("infer", "train")}
CUDNN_8_FUNCTIONS = (
    "cudnnSetRNNDescriptor_v6", "cudnnGetRNNParamsSize", "cudnnGetRNNWorkspaceSize", "cudnnGetRNNTrainingReserveSize",
    "cudnnRNNForwardTraining", "cudnnRNNForwardInference", "cudnnRNNBackwardData", "cudnnRNNBackwardWeights",
    "cudnnGetRNNLinLayerMatrixParams", "cudnnGetRNNLinLayerBiasParams")

WRAPPER = """#!/bin/sh
# Jittor asks for C++14, CUDA 13's own headers need C++17. Intermediate code beside sm_90's serves newer GPUs.
for word; do
  shift
  case $word in
    -std=c++14) word=-std=c++17 ;;
    -code=sm_90) set -- "$@" -code=compute_90 ;;
  esac
  set -- "$@" "$word"
done
exec "{nvcc}" "$@"
"""  # English
CUDNN_H = """#pragma once
// cuDNN 9, and the recurrent functions of cuDNN 8 that it dropped. Jittor compiles its recurrent layers together with
// its convolutions: here they compile, and refuse to run.
#include "{real}"
#if defined(__cplusplus) && CUDNN_MAJOR >= 9
#include <cstdlib>
{gone}
// Jittor leaves a float32 convolution to cuDNN's default, which takes TF32 where that is fastest, and on its option
// permits conversions, half precision among them. PyTorch says what is meant, and so is it said here: FMA where TF32
// is forbidden, the default where it is allowed. Half-precision convolutions stay as Jittor sets them.
inline cudnnStatus_t stand_in_math(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {{
  int length, pad[3], stride[3], dilation[3];
  cudnnConvolutionMode_t mode;
  cudnnDataType_t compute;
  const cudnnStatus_t told =
      cudnnGetConvolutionNdDescriptor(convolution, 3, &length, pad, stride, dilation, &mode, &compute);
  if (told != CUDNN_STATUS_SUCCESS) return told;
  if (compute == CUDNN_DATA_FLOAT) {{
    const char* tf32 = std::getenv("{switch}");
    math = tf32 && tf32[0] == '0' && !tf32[1] ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
  }}
  return cudnnSetConvolutionMathType(convolution, math);
}}
inline cudnnStatus_t stand_in_convolution(cudnnConvolutionDescriptor_t convolution, int length, const int pad[],
                                          const int stride[], const int dilation[], cudnnConvolutionMode_t mode,
                                          cudnnDataType_t compute) {{
  const cudnnStatus_t set =
      cudnnSetConvolutionNdDescriptor(convolution, length, pad, stride, dilation, mode, compute);
  return set == CUDNN_STATUS_SUCCESS ? stand_in_math(convolution, CUDNN_DEFAULT_MATH) : set;
}}
#define cudnnSetConvolutionNdDescriptor stand_in_convolution
#define cudnnSetConvolutionMathType stand_in_math
#endif
"""  # English
DROPPED = "template <class... Any> cudnnStatus_t {name}(Any&&...) {{ return CUDNN_STATUS_NOT_SUPPORTED; }}"  # English
CUDA_RUNTIME_H = """#pragma once
#include "{real}"
// Members that CUDA 13 took out of cudaDeviceProp; the functions of Jittor that name them are never called.
#if CUDART_VERSION >= 13000
#define computeMode integrated
#define clockRate multiProcessorCount
#endif
"""  # English
CUB_CUH = """#pragma once
// What CUB 3 dropped and Jittor's kernels still name.
#include_next <cub/cub.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
namespace cub {
struct Max {
  template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return b > a ? b : a; }
};
struct Min {
  template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return b < a ? b : a; }
};
struct Sum {
  template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return a + b; }
};
template <class T> using CountingInputIterator = thrust::counting_iterator<T>;
template <class Value, class Function, class Iterator>
struct TransformInputIterator : thrust::transform_iterator<Function, Iterator, Value> {
  __host__ __device__ TransformInputIterator(Iterator i, Function f)
      : thrust::transform_iterator<Function, Iterator, Value>(i, f) {}
};
}
"""  # English
NPP_H = """#pragma once
// All that Jittor takes of NPP, a library of 150 MB: the limits of integers.
#include <limits.h>
#define NPP_MIN_32U 0
#define NPP_MAX_32U UINT_MAX
#define NPP_MIN_32S INT_MIN
#define NPP_MAX_32S INT_MAX
#define NPP_MIN_64U 0
#define NPP_MAX_64U ULLONG_MAX
#define NPP_MIN_64S LLONG_MIN
#define NPP_MAX_64S LLONG_MAX
"""  # English


@dataclass(frozen=True)
class Parts:
    """What a folder is made of; equal parts need no new folder.

    Attributes:
        nvcc: the compiler.
        versions: of the wheels, by name.
        roots: their folders named nvidia, in the order in which files are taken.
    """

    nvcc: Path
    versions: dict[str, str]
    roots: tuple[Path, ...]

    def manifest(self) -> dict[str, object]:
        """The same as JSON."""
        return {"format": FORMAT, "nvcc": str(self.nvcc), "versions": self.versions,
                "roots": [str(root) for root in self.roots]}


def folder() -> Path:
    """Where the toolkit is: always there, because its path is part of the commands that Jittor's cache is keyed by."""
    return default_folder() / "cuda-toolkit"


def ready(own: str | None = None) -> Path:
    """The compiler of a folder that is as the installed wheels demand, built where it is not.

    Args:
        own: a CUDA 13 compiler to use instead of the wheels' one.

    Raises:
        UnavailableError: a wheel is missing or of another release than the others, or the folder cannot be written.
    """
    place = folder()
    found = parts(own)
    try:
        if _manifest(place) != found.manifest():
            _build(place, found)
        elif not _tried(place):
            _check_compiler(place)
    except OSError as error:
        raise UnavailableError(tell("Jittor on CUDA: {place} cannot be written ({reason}): make room, or set "
                                    "XDG_CACHE_HOME to a writable folder", place=place,
                                    reason=error.strerror or error)) from error
    return place / "bin" / "nvcc"


def compiler_flag() -> str:
    """A word for the compiler that tells the stand-ins' format: Jittor compiles anew what other words compiled."""
    return f"-DSTAND_INS={FORMAT}"


def compiler_of(place: Path) -> str | None:
    """The compiler that the toolkit at `place` was built around; None where there is no toolkit of ours."""
    manifest = _manifest(place)
    return None if manifest is None else str(manifest.get("nvcc"))


def parts(own: str | None = None) -> Parts:
    """The wheels and the compiler to build from.

    Raises:
        UnavailableError: as `ready`.
    """
    versions, roots = {}, []
    wanted = (*LIBRARIES, CUDNN, *(() if own else COMPILER))
    for name in wanted:
        try:
            wheel = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise UnavailableError(tell("Jittor on CUDA: {missing}: {install}, or choose --device cpu",
                                        missing=_missing(name), install=INSTALL)) from error
        versions[name] = wheel.version
        roots.append(Path(str(wheel.locate_file("nvidia"))))
    release = _minor(versions[LIBRARIES[0]])
    nvcc = Path(own) if own else roots[wanted.index(COMPILER[0])] / _cuda(versions) / "bin" / "nvcc"
    other = _minor(version_of(str(nvcc))) if own else _minor(versions[COMPILER[0]])
    if other != release:
        raise UnavailableError(
            tell("Jittor on CUDA: the compiler is of CUDA {other}, PyTorch's libraries are of CUDA {release}: "
                 "{install}", other=other, release=release, install=INSTALL))
    if not nvcc.is_file():
        raise UnavailableError(tell("Jittor on CUDA: {nvcc} is missing: pip install --force-reinstall {compiler}",
                                    nvcc=nvcc, compiler=COMPILER[0]))
    return Parts(nvcc.resolve(), versions, tuple(dict.fromkeys(roots)))


def version_of(nvcc: str) -> str:
    """The release of CUDA that a compiler belongs to, such as "13.0".

    Raises:
        UnavailableError: it does not run or does not tell.
    """
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(tell("Jittor on CUDA: {nvcc} does not run: {error}", nvcc=nvcc, error=error)) from error
    release = re.search(r"release (\d+\.\d+)", text)
    if release is None:
        raise UnavailableError(tell("Jittor on CUDA: {nvcc} does not tell its version: set nvcc_path to another one",
                                    nvcc=nvcc))
    return release[1]


def _home(nvcc: Path) -> Path:
    """The toolkit that a compiler belongs to, as it says itself: what is in PATH may only be a script that calls it."""
    command = [str(nvcc), "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    here = re.search(r"^#\$ _HERE_=(.+)$", told.stdout + told.stderr, re.MULTILINE)
    return Path(here[1]).parent if here else nvcc.parents[1]


def _missing(name: str) -> str:
    if name in COMPILER:
        return tell("there is no CUDA compiler (wheel {name} is missing)", name=name)
    return tell("PyTorch's CUDA 13 libraries are not installed (wheel {name} is missing)", name=name)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _cuda(versions: dict[str, str]) -> str:
    """The folder that wheels of one release of CUDA share, such as cu13."""
    return f"cu{versions[LIBRARIES[0]].split('.', maxsplit=1)[0]}"


def _manifest(place: Path) -> dict[str, object] | None:
    try:
        found = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _build(place: Path, found: Parts) -> None:
    """Build a folder beside `place` and let `place`, a link, lead to it: whoever compiles sees the old one or the new.

    A folder's name comes from what it is made of, so that two processes at once build the same.
    """
    text = json.dumps(found.manifest(), indent=1)
    versions = place.with_name(f"{place.name}-builds")
    versions.mkdir(parents=True, exist_ok=True)
    target = versions / sha256(text.encode()).hexdigest()[:12]
    if _manifest(target) != found.manifest():
        shutil.rmtree(target, ignore_errors=True)
        with staging(target) as scratch:
            _fill(scratch, found)
            _check_compiler(scratch)
            (scratch / MANIFEST).write_text(text, encoding="utf-8")
            try:
                scratch.rename(target)
            except OSError:
                # Another process was faster.
                if _manifest(target) != found.manifest():
                    raise
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    with replacement(place) as link:
        link.symlink_to(target)
    for old in versions.iterdir():
        if old != target and not old.name.startswith("."):
            shutil.rmtree(old, ignore_errors=True)


def _fill(scratch: Path, found: Parts) -> None:
    include, lib = scratch / "include", scratch / "lib64"
    cuda = _cuda(found.versions)
    for root in found.roots:
        for part in (root / cuda, root / "cudnn"):
            _link_tree(part / "include", include)
            _link_tree(part / "lib", lib)
    _without_versions(lib)
    # What a compiler of one's own has beside it and the wheels lack; its cccl/ it finds by itself.
    _link_tree(_home(found.nvcc) / "include", include, skip=("cccl",))
    for name, real in CUDNN_8_NAMES.items():
        _link(lib / real, lib / name, relative=True)
    gone = "\n".join(DROPPED.format(name=name) for name in CUDNN_8_FUNCTIONS)
    _stand_in(include / "cudnn.h", CUDNN_H, gone=gone, switch=TF32_SWITCH)
    _stand_in(include / "cuda_runtime.h", CUDA_RUNTIME_H)
    if not (include / "npp.h").exists():
        (include / "npp.h").write_text(NPP_H, encoding="utf-8")
    (include / "cub").mkdir(exist_ok=True)
    (include / "cub" / "cub.cuh").unlink(missing_ok=True)
    (include / "cub" / "cub.cuh").write_text(CUB_CUH, encoding="utf-8")
    (scratch / "bin").mkdir()
    wrapper = scratch / "bin" / "nvcc"
    wrapper.write_text(WRAPPER.format(nvcc=found.nvcc), encoding="utf-8")
    wrapper.chmod(0o755)


def _host() -> str:
    """The C++ compiler that Jittor compiles with."""
    return os.environ.get("cc_path") or "g++"  # noqa: SIM112 - Jittor's name


def _host_told() -> str:
    """Which one it is: another one may be too new, under the same name as well."""
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run([_host(), "--version"], capture_output=True, text=True, errors="replace", check=False,
                              timeout=60)
        return f"{_host()}: {told.stdout}"
    return _host()


def _tried(place: Path) -> bool:
    """Whether the compiler of a folder was tried with the C++ compiler that is there now."""
    with suppress(OSError):
        return (place / HOST).read_text(encoding="utf-8") == _host_told()
    return False


def _check_compiler(place: Path) -> None:
    """Refuse a compiler that compiles nothing, as Jittor would find out minutes later: g++ may be missing or too new.

    Raises:
        UnavailableError: it does not; with its own words.
    """
    with tempfile.TemporaryDirectory(prefix="nvcc-") as folder:
        command = [str(place / "bin" / "nvcc"), f"-I{place / 'include'}", "-ccbin", _host(), "-x", "cu", "-c",
                   os.devnull, "-o", str(Path(folder) / "empty.o")]
        try:
            told = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False,
                                  timeout=TRIAL_S)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(tell("Jittor on CUDA: the compiler compiles nothing within {seconds} s: see whether "
                                        "the machine is overloaded", seconds=TRIAL_S)) from error
    if told.returncode != 0:
        lines = [*told.stderr.splitlines(), *told.stdout.splitlines()]
        why = cause(lines) or next((line for line in lines if "error" in line),
                                   tell("exit status {status}", status=told.returncode))
        raise UnavailableError(tell("Jittor on CUDA: the compiler does not work: {why}", why=why))
    (place / HOST).write_text(_host_told(), encoding="utf-8")


def _link_tree(source: Path, target: Path, skip: tuple[str, ...] = ()) -> None:
    """Links in `target` to every file of `source`, folder by folder; what is there already stays."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()) if source.is_dir() else ():
        if entry.name in skip:
            continue
        if entry.is_dir():
            _link_tree(entry, target / entry.name)
        else:
            _link(entry.resolve(), target / entry.name)


def _link(source: Path, target: Path, relative: bool = False) -> None:
    if not target.is_symlink() and not target.exists():
        target.symlink_to(source.name if relative else source)


def _without_versions(lib: Path) -> None:
    """libx.so.13 also as libx.so, the name that is linked with."""
    for library in sorted(lib.glob("lib*.so.*")):
        _link(library, library.with_name(re.sub(r"\.so\..*", ".so", library.name)), relative=True)


def _stand_in(header: Path, text: str, **parts: str) -> None:
    """Put `text` in the place of a linked header, which it includes by its real path."""
    real = header.resolve()
    if not real.is_file():
        raise UnavailableError(tell("Jittor on CUDA: {name} is in none of the installed wheels: {install}",
                                    name=header.name, install=INSTALL))
    header.unlink()
    header.write_text(text.format(real=real, **parts), encoding="utf-8")


def cudnn_major(nvcc: str) -> int | None:
    """The cuDNN that lies beside a compiler, as its headers tell; None where there is none."""
    home = Path(os.path.realpath(nvcc)).parents[1]
    for include in (home / "include", home / "targets" / "x86_64-linux" / "include", Path("/usr/include"),
                    Path("/usr/include/x86_64-linux-gnu")):
        for name in ("cudnn_version.h", "cudnn.h"):
            try:
                text = (include / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            found = re.search(r"#define\s+CUDNN_MAJOR\s+(\d+)", text)
            if found:
                return int(found[1])
    return None
