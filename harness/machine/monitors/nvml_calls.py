"""Calls into NVIDIA's bindings; every vendor error is translated here and nowhere else."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

from messages import recorded

Fault = Literal["unsupported", "nothing-new", "gone", "failed"]

UNSUPPORTED = ("NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "DEPRECATED", "ARGUMENT_VERSION_MISMATCH")
NOTHING_NEW = ("NOT_FOUND", "NO_DATA")
GONE = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND")


class ReadingError(Exception):
    """An NVML call that gave no value.

    Attributes:
        kind: "unsupported" (will never work here), "nothing-new" (no reading since the last), "gone" (the device or
            the driver vanished), "failed" (this time).
    """

    def __init__(self, kind: Fault, message: str) -> None:
        super().__init__(message)
        self.kind: Fault = kind


class Nvml:
    """The vendor's bindings, whose every error becomes a `ReadingError`."""

    def __init__(self, bindings: ModuleType) -> None:
        self.bindings = bindings
        self._kinds: dict[int, Fault] = {}
        for kind, names in (("unsupported", UNSUPPORTED), ("nothing-new", NOTHING_NEW), ("gone", GONE)):
            for name in names:
                code = getattr(bindings, f"NVML_ERROR_{name}", None)
                if code is not None:
                    self._kinds[code] = kind  # type: ignore[assignment]

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of one NVML function.

        Raises:
            ReadingError: it gave none, and why.
        """
        try:
            return getattr(self.bindings, name)(*arguments)
        except self.bindings.NVMLError as error:
            raise ReadingError(self._kinds.get(error.value, "failed"), str(error)) from error
        except self.bindings.NVMLLibraryMismatchError as error:
            raise ReadingError("unsupported", recorded("the driver is too old for {name}", name=name)) from error

    def constant(self, name: str) -> Any:
        """One of NVML's constants."""
        return getattr(self.bindings, name)
