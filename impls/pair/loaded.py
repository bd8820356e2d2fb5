"""A pair's file in the worker that executes it: its functions, and every fault named by file and function."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from impls.errors import UsageError
from impls.pair.file import FRAMEWORKS, read_pair
from impls.pair.rule import rule_of
from impls.recipe.randomness import stream
from messages import tell

Framework = Literal["torch", "jittor"]
Batch = Mapping[str, NDArray[Any]]
MODULE = "ddpm_bench_pair"
# They lie on the device, and steps take them in turn: what a step costs is not what making its numbers costs.
BATCHES = 4
INT32 = np.iinfo(np.int32)


class PairFailedError(Exception):
    """A function of the user's file raised, or ended the process."""


class Pair:
    """The functions of a pair's file for one framework.

    Args:
        path: the file; it is executed here.
        framework: whose functions are called; the other one cannot be imported any more.

    Attributes:
        rule: how the weights are moved.
        proof: of what is executed, for the report: the hash of the file with what it imports from its folder.

    Raises:
        PairFailedError: executing it failed.
        UsageError: a setting in it is wrong.
    """

    def __init__(self, path: Path, framework: Framework) -> None:
        self.path, self.framework = path, framework
        self.proof = {"pair": f"{path.name}, SHA-256 {read_pair(path).sha256[:12]}"}
        for other in FRAMEWORKS:
            if other != framework:
                sys.meta_path.insert(0, _Refused(other, framework))
        self._module = self._executed()
        self.rule = rule_of(getattr(self._module, "optimizer", None), path.name)
        images = getattr(self._module, "images", None)
        if images is not None and (not isinstance(images, int) or isinstance(images, bool) or images < 1):
            raise UsageError(tell("{name}: images: a whole number of at least 1, got {value}", name=path.name,
                                  value=f"{images!r:.60}"))
        self._images: int | None = images

    def model(self) -> Any:
        """The user's new model."""
        return self._call(f"{self.framework}_model")

    def loss(self, model: Any, batch: Mapping[str, Any]) -> Any:
        """The user's loss, whatever it is."""
        return self._call(f"{self.framework}_loss", model, batch)

    @property
    def loss_name(self) -> str:
        """The function that gives the loss, with its file."""
        return f"{self.path.name}: {self.framework}_loss()"

    def outputs(self, model: Any, batch: Mapping[str, Any], tensor: type) -> list[Any]:
        """What is compared and what a forward pass is: of the file's `outputs`, else the loss.

        Args:
            model: the user's.
            batch: by name.
            tensor: the framework's own kind.

        Raises:
            UsageError: it is no tensor, and holds none, or something else too.
        """
        own = hasattr(self._module, "outputs")
        found = self._call("outputs", model, batch) if own else self.loss(model, batch)
        told = list(_leaves(found))
        other = next((one for one in told if not isinstance(one, tensor)), None)
        if not told or other is not None:
            what = f"{self.path.name}: outputs()" if own else self.loss_name  # English
            raise UsageError(tell("{what} gave {kind}: return tensors of {framework}, one or several in a list or a "
                                  "dict", what=what, kind=type(found if other is None else other).__name__,
                                  framework=self.framework))
        return told

    @property
    def names(self) -> Callable[[str], object] | None:
        """The user's rule for names, where there is one; none in PyTorch, whose names those of the states are."""
        return partial(self._call, "names") if self.framework == "jittor" and hasattr(self._module, "names") else None

    def batches(self, seed: int) -> list[dict[str, NDArray[Any]]]:
        """The batches that steps take in turn, each from a random stream of its own.

        Raises:
            UsageError: one is no dict of arrays of finite numbers.
        """
        return [self._batch(stream(seed, "pair batch", number)) for number in range(BATCHES)]  # English

    def images(self, batch: Batch) -> int:
        """How many images a batch counts: as the file says, else the leading dimension of its first array."""
        first = next(iter(batch.values()))
        return self._images or (len(first) if first.ndim else 1)

    def _batch(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        found, where = self._call("batch", rng), f"{self.path.name}: batch()"  # English
        if not isinstance(found, dict) or not found:
            raise UsageError(tell("{where} gave {kind}: return a dict of numpy arrays", where=where,
                                  kind=type(found).__name__ if found != {} else tell("an empty dict")))
        return {str(name): _numbers(value, f"{where}[{name!r}]") for name, value in found.items()}

    def _executed(self) -> ModuleType:
        # The folder of a user's file need not be writable, and gets no new files.
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self.path.parent))
        spec = importlib.util.spec_from_file_location(MODULE, self.path)
        if spec is None or spec.loader is None:
            raise UsageError(tell("--pair {path}: not a Python file: give it the ending .py", path=self.path))
        module = importlib.util.module_from_spec(spec)
        # Data classes and pickles of the user's own look their module up.
        sys.modules[MODULE] = module
        self._guarded(tell("its top"), partial(spec.loader.exec_module, module))
        return module

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._guarded(f"{name}()", partial(getattr(self._module, name), *arguments))

    def _guarded(self, what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}".split("\n", 1)[0]
            raise PairFailedError(tell("{name}: {what} failed: {fault}", name=self.path.name, what=what,
                                       fault=said)) from error


class _Refused(MetaPathFinder):
    """Refuses the import of a framework, which would disturb the one that is measured."""

    def __init__(self, name: str, own: str) -> None:
        self._name, self._own = name, own

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        """None for every other module."""
        if fullname.partition(".")[0] == self._name:
            raise ImportError(tell("{name} is imported in the worker of {own}, which has one framework alone",
                                   name=fullname, own=self._own))
        return None


def _numbers(value: Any, where: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise UsageError(tell("{where} is {kind}: return numpy arrays", where=where, kind=type(value).__name__))
    if value.dtype.kind not in "fiub":
        raise UsageError(tell("{where} holds {kind}: only numbers cross between frameworks", where=where,
                              kind=value.dtype))
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise UsageError(tell("{where} holds NaN or infinity", where=where))
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind in "iu" and size == 8 and value.size and not INT32.min <= value.min() <= value.max() <= INT32.max:
        raise UsageError(tell("{where} holds whole numbers beyond 32 bits, which Jittor would cut off", where=where))
    # As both frameworks compute, and as Jittor would make of it unasked; neither knows the other byte order.
    dtype = np.dtype(np.float32) if kind == "f" and size > 4 else value.dtype.newbyteorder("=")
    # A copy: a file may fill the same array for every batch.
    return value.astype(dtype)


def _leaves(found: Any) -> Any:
    """Tensors in whatever a model puts out."""
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, list | tuple):
        for one in found:
            yield from _leaves(one)
    elif found is not None:
        yield found
