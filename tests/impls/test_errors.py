"""The line that says why, out of pages that compilers, drivers and frameworks really print."""

from __future__ import annotations

import pytest

from impls.errors import cause

LONG = " ".join(["g++ -std=c++14 -I/home/user/.cache/jittor/include"] * 20)
TOO_NEW = "unsupported GNU version! gcc versions later than 15 are not supported!"
NEWER = "The nvcc flag '-allow-unsupported-compiler' can be used to override this version check; however,"
PAGES = {
    "gcc too new": (
        f"In file included from <command-line>:\n/x/crt/host_config.h:137:2: error: #error -- {TOO_NEW} {NEWER}\n"
        f"  137 | #error -- {TOO_NEW} {NEWER}\n      |  ^~~~~\n"
        "nvcc fatal   : Failed to preprocess host compiler properties.",
        TOO_NEW[:-1], "older g++ by cc_path"),
    "no host compiler": (
        "gcc: No such file or directory\nnvcc fatal   : Failed to preprocess host compiler properties.",
        "gcc: No such file or directory", "apt install g++"),
    "another one is missing": (
        "/nonexistent/g++-14: No such file or directory\nnvcc fatal   : Failed to preprocess host compiler properties.",
        "/nonexistent/g++-14: No such file or directory", "cc_path"),
    "in a shell": ("sh: 1: g++: not found", "sh: 1: g++: not found", "apt install g++"),
    "full, linking": (
        "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status",
        "final link failed: No space left on device", "make room"),
    "full, compiling": (
        "<built-in>: fatal error: when writing output to /tmp/tmpxft_5_a.cpp4.ii: No space left on device\nterminated.",
        "No space left on device", "make room"),
    "full, assembling": (
        "/tmp/c.s: Fatal error: can't write 11 bytes to section .text of /tmp/b.o: 'No space left on device'\n"
        "/tmp/cc1.s: Fatal error: /tmp/b.o: No such file or directory", "'No space left on device'", "make room"),
    "full, in Python, behind a long command": (
        f"{LONG} OSError: [Errno 28] No space left on device", "No space left on device", "make room"),
    "full, in Python, before a long path": (
        f"[Errno 28] No space left on device: '/home/user/{'x' * 200}'", "[Errno 28] No space left on device",
        "make room"),
    "PyTorch, memory": (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.00 GiB of which 10.00 MiB "
        "is free. Including non-PyTorch memory, this process has 70.00 GiB memory in use.", "CUDA out of memory",
        "smaller batch"),
    "inside a word without end": (
        f"/{'x' * 200}cudaErrorMemoryAllocation", "xcudaErrorMemoryAllocation", "smaller batch"),
    "a limit": ("File size limit exceeded (core dumped)", "File size limit exceeded", "ulimit -f"),
    "read-only": (
        "OSError: [Errno 30] Read-only file system: '/root/.cache/jittor/x'", "Read-only file system", "HOME"),
    "no library": (
        "/usr/bin/ld: cannot find -lcudnn: No such file or directory\ncollect2: error: ld returned 1 exit status",
        "cannot find -lcudnn", "install the library"),
    "too little memory": (
        "g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
        "Killed signal terminated program cc1plus", "out of memory"),
    "Jittor, GPU gone": (
        "\x1b[38;5;1m[f 1126 08:12:27 24 helper_cuda.h:128] CUDA error at /x/cudnn_conv.cc:37 code=719( "
        "cudaErrorLaunchFailure ) cudaDeviceSynchronize()\x1b[m", "cudaErrorLaunchFailure", "dmesg for Xid"),
    "PyTorch, GPU gone": (
        "torch.AcceleratorError: CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' in",
        "CUDA error: unspecified launch failure", "nvidia-smi"),
    "Jittor, memory": (
        "[f 1126 cuda_device_allocator.cc:31] Unable to alloc cuda device memory for size 1024",
        "Unable to alloc cuda device memory", "smaller batch")}


@pytest.mark.parametrize("name", PAGES)
def test_the_line_that_says_why(name):
    page, words, advice = PAGES[name]
    found = cause(page.splitlines())
    assert words in found.line and advice in found.advice
    assert "\n" not in str(found) and "\x1b" not in str(found) and len(str(found)) < 320


def test_nothing_known_is_nothing_said():
    assert cause(["step 17 loss 0.41", "error: no suitable conversion", "ValueError: shapes"]) is None


def test_words_that_a_message_has_already_are_not_repeated():
    why = cause(["CUDA error: unspecified launch failure"])
    assert why.after("it died").startswith("it died: CUDA error: unspecified launch failure: the driver")
    assert why.after("CUDA error: unspecified launch failure").count("unspecified") == 1
