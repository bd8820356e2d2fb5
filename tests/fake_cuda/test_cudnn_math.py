"""Which arithmetic the real cuDNN is told to use for a convolution as Jittor asks for it; no GPU needed."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from impls.jittor.setup import cuda_toolkit

DEFAULT, CONVERSION, FMA = 0, 2, 3
FLOAT, HALF = 0, 2
# What of cuDNN's header the stand-in and the program below use; the real one needs CUDA's compiler beside it.
HEADER = """
#define CUDNN_MAJOR 9
enum cudnnStatus_t { CUDNN_STATUS_SUCCESS = 0, CUDNN_STATUS_NOT_SUPPORTED = 3000 };
enum cudnnDataType_t { CUDNN_DATA_FLOAT = 0, CUDNN_DATA_HALF = 2 };
enum cudnnMathType_t { CUDNN_DEFAULT_MATH = 0, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION = 2, CUDNN_FMA_MATH = 3 };
enum cudnnConvolutionMode_t { CUDNN_CROSS_CORRELATION = 1 };
typedef struct cudnnConvolutionStruct* cudnnConvolutionDescriptor_t;
extern "C" {
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t*);
cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t, int, const int[], const int[], const int[],
                                              cudnnConvolutionMode_t, cudnnDataType_t);
cudnnStatus_t cudnnGetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t, int, int*, int[], int[], int[],
                                              cudnnConvolutionMode_t*, cudnnDataType_t*);
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t, cudnnMathType_t);
cudnnStatus_t cudnnGetConvolutionMathType(cudnnConvolutionDescriptor_t, cudnnMathType_t*);
}
"""
# As jittor/extern/cuda/cudnn/ops/cudnn_conv_op.cc does; the option is use_tensorcore, or half precision.
PROGRAM = """
#include "cudnn.h"
#include <cstdio>
#include <initializer_list>
int main() {
  const int ones[] = {1, 1}, pads[] = {1, 1};
  std::printf("[");
  for (cudnnDataType_t type : {CUDNN_DATA_FLOAT, CUDNN_DATA_HALF})
    for (bool option : {false, true}) {
      cudnnConvolutionDescriptor_t convolution;
      cudnnMathType_t math;
      int failed = cudnnCreateConvolutionDescriptor(&convolution);
      failed |= cudnnSetConvolutionNdDescriptor(convolution, 2, pads, ones, ones, CUDNN_CROSS_CORRELATION, type);
      if (option) failed |= cudnnSetConvolutionMathType(convolution, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION);
      failed |= cudnnGetConvolutionMathType(convolution, &math);
      std::printf("%s[%d, %d, %d]", type || option ? ", " : "", type, option, failed ? -1 : math);
    }
  std::printf("]\\n");
}
"""


@pytest.fixture(scope="module")
def cudnn() -> Path:
    """PyTorch's own libcudnn."""
    try:
        wheel = importlib.metadata.distribution(cuda_toolkit.CUDNN)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("this PyTorch brings no cuDNN")
    return Path(str(wheel.locate_file("nvidia/cudnn/lib/libcudnn.so.9")))


def built(cudnn: Path, folder: Path, stand_in: bool) -> Path:
    """The program, with cuDNN's header as it is or with what Jittor is given in its place."""
    real = folder / "real.h"
    real.write_text(HEADER)
    gone = "\n".join(cuda_toolkit.DROPPED.format(name=name) for name in cuda_toolkit.CUDNN_8_FUNCTIONS)
    text = cuda_toolkit.CUDNN_H.format(real=real, gone=gone, switch=cuda_toolkit.TF32_SWITCH)
    (folder / "cudnn.h").write_text(text if stand_in else HEADER)
    source, program = folder / "program.cc", folder / "program"
    source.write_text(PROGRAM)
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Werror", str(source), "-o", str(program), str(cudnn),
                    f"-Wl,-rpath,{cudnn.parent}", "-Wl,--allow-shlib-undefined"], check=True)
    return program


def told(program: Path, switch: str | None) -> dict[tuple[int, bool], int]:
    """The math type by type of number and by whether the option is set."""
    environment = {name: value for name, value in os.environ.items() if name != cuda_toolkit.TF32_SWITCH}
    if switch is not None:
        environment[cuda_toolkit.TF32_SWITCH] = switch
    done = subprocess.run([str(program)], env=environment, capture_output=True, text=True, check=True)
    return {(kind, bool(option)): math for kind, option, math in json.loads(done.stdout)}


def test_left_alone_jittor_lets_cudnn_choose_or_convert(cudnn, tmp_path):
    assert told(built(cudnn, tmp_path, stand_in=False), "0") == {
        (FLOAT, False): DEFAULT, (FLOAT, True): CONVERSION, (HALF, False): DEFAULT, (HALF, True): CONVERSION}


def test_float32_is_exact_where_tf32_is_forbidden_and_never_converted(cudnn, tmp_path):
    program = built(cudnn, tmp_path, stand_in=True)
    for switch, math in (("0", FMA), (None, DEFAULT), ("1", DEFAULT), ("", DEFAULT)):
        assert told(program, switch) == {
            (FLOAT, False): math, (FLOAT, True): math, (HALF, False): DEFAULT, (HALF, True): CONVERSION}, switch


def test_the_numbers_are_those_of_the_real_header(cudnn):
    header = (cudnn.parents[1] / "include" / "cudnn_graph.h").read_text()
    for name, value in re.findall(r"(CUDNN_(?!MAJOR)\w+) = (\d+)", HEADER):
        assert re.search(rf"\b{name}\s*=\s*{value}\b", header), name


def test_the_library_loads_without_a_gpu(cudnn):
    assert ctypes.CDLL(str(cudnn)).cudnnGetVersion() // 10000 == 9
