"""What Jittor's CUDA sources call is in PyTorch's libraries, or stands in their place; nothing is compiled."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from impls.jittor.setup import cuda_toolkit

CALL = re.compile(r"\b((?:cuda|cudnn|cublas|curand|cufft|cusparse)[A-Z]\w*)\s*\(")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# Downloads that are switched off.
UNUSED = ("cutt", "cutlass", "nccl")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Functions of the real libraries."""
    names = set()
    for wheel in (*cuda_toolkit.LIBRARIES, cuda_toolkit.CUDNN):
        try:
            files = importlib.metadata.distribution(wheel).files or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"this PyTorch brings no CUDA libraries ({wheel})")
        libraries = [str(file.locate()) for file in files if re.search(r"/lib(cudart|cublas|curand|cufft|cusparse|cudnn"
                                                                      r"|cudnn_ops|cudnn_cnn)\.so\.\d+$", str(file))]
        lines = subprocess.run(["nm", "-D", "--defined-only", *libraries], capture_output=True, text=True, check=True)
        names |= {line.split()[-1].split("@")[0] for line in lines.stdout.splitlines() if line.count(" ") >= 2}
    return names


def called() -> set[str]:
    """CUDA functions in the sources that Jittor compiles."""
    found = importlib.util.find_spec("jittor")
    if found is None or found.origin is None:
        pytest.skip("Jittor is not installed")
    root = Path(found.origin).parent
    names = set()
    for folder in (root / "src", root / "extern" / "cuda"):
        for path in folder.rglob("*"):
            if path.suffix in (".cc", ".cu", ".h") and not set(UNUSED) & set(path.parts):
                names |= set(CALL.findall(COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace"))))
    return names


def test_every_function_is_there_or_stands_in(exported):
    names = called()
    assert {"cudnnConvolutionForward", "cublasGemmEx", "cudaMalloc", "curandCreateGenerator"} <= names
    # CUDA's headers give some the number of their second version, by a macro.
    missing = {name for name in names if name not in exported and f"{name}_v2" not in exported}
    assert missing == set(cuda_toolkit.CUDNN_8_FUNCTIONS)
