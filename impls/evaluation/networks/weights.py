"""Tensors from a weights file: read without executing anything in it, and compared with what a network has."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from impls.errors import UsageError
from messages import tell

Tensors = dict[str, torch.Tensor]
# Counts training batches; files from before PyTorch 0.4.1 lack it, and nothing in evaluation reads it.
_OPTIONAL = ".num_batches_tracked"


def read_tensors(content: bytes, where: str) -> Tensors:
    """The named tensors of a file that `torch.save` wrote.

    Raises:
        UsageError: it is no such file, or holds anything beside tensors.
    """
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # Bytes of a stranger: whatever the unpickler stumbles over, the file is to blame.
        raise UsageError(tell("{where}: not a plain file of tensors ({kind} while reading it; nothing in it was "
                              "executed): get the file again", where=where, kind=type(error).__name__)) from error
    if not isinstance(found, Mapping) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()):
        raise UsageError(tell("{where}: holds something else than named tensors: get the file again", where=where))
    return {name: value.detach() for name, value in found.items()}


def check_tensors(found: Tensors, wanted: Mapping[str, Any], where: str) -> None:
    """Make sure that names, shapes and types are those of a network's `state_dict`.

    Raises:
        UsageError: they are not; the first difference is named.
    """
    for name, tensor in wanted.items():
        if name not in found:
            if name.endswith(_OPTIONAL):
                continue
            raise UsageError(tell("{where}: tensor {name} is missing: these are weights of another network",
                                  where=where, name=name))
        got = found[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise UsageError(tell("{where}: tensor {name} is {found}, expected {wanted}: these are weights of another "
                                  "network", where=where, name=name, found=f"{got.dtype} {tuple(got.shape)}",
                                  wanted=f"{tensor.dtype} {tuple(tensor.shape)}"))
        if not bool(torch.isfinite(got).all()):
            raise UsageError(tell("{where}: tensor {name} holds NaN or infinity: the weights are of no use",
                                  where=where, name=name))
    more = sorted(set(found) - set(wanted))
    if more:
        raise UsageError(tell("{where}: tensor {name} is not part of the network: these are weights of another network",
                              where=where, name=more[0]))
