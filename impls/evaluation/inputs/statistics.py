"""Published statistics of real images' features, as pytorch-fid keeps them: `mu` and `sigma` of an npz file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impls.data.array_cache import file_digest
from impls.errors import UsageError
from impls.evaluation.distances import Array, Reference
from impls.evaluation.inputs import arrays
from messages import tell

MU, SIGMA = "mu", "sigma"
# Of the largest variance: what single precision leaves.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Published:
    """A Gaussian that somebody fitted to features.

    Attributes:
        path: its file.
        sha256: of the file.
        mean: (d,) float64.
        covariance: (d, d) float64, symmetric.
    """

    path: Path
    sha256: str
    mean: Array
    covariance: Array

    def fitted(self) -> Reference:
        """The Gaussian for distances to it.

        Raises:
            UsageError: the covariance is none.
        """
        try:
            return Reference.published(self.mean, self.covariance, TOLERANCE)
        except ValueError as error:
            raise UsageError(tell("{path}: {name} {error}: no covariance: get the file again", path=self.path,
                                  name=SIGMA, error=error)) from error


def read_statistics(path: Path) -> Published:
    """The statistics of a file, with everything checked that costs nothing.

    Raises:
        UsageError: shapes, types or values are not those of a mean and a covariance.
    """
    mean, covariance = _floats(path, MU), _floats(path, SIGMA)
    d = len(mean) if mean.ndim == 1 else 0
    if d < 2 or covariance.shape != (d, d):
        raise UsageError(tell("{path}: {mean} has shape {shape} and {covariance} {other}, expected (d,) and (d, d) of "
                              "the same d", path=path, mean=MU, shape=mean.shape, covariance=SIGMA,
                              other=covariance.shape))
    for name, found in ((MU, mean), (SIGMA, covariance)):
        if not np.isfinite(found).all():
            raise UsageError(tell("{path}: {name} holds NaN or infinity: get the file again", path=path, name=name))
    scale = float(np.abs(covariance.diagonal()).max())
    if float(np.abs(covariance - covariance.T).max()) > TOLERANCE * scale:
        raise UsageError(tell("{path}: {name} is not symmetric: no covariance: get the file again", path=path,
                              name=SIGMA))
    return Published(path, file_digest(path), mean, (covariance + covariance.T) / 2)


def _floats(path: Path, name: str) -> NDArray[Any]:
    found = arrays.load(path, name)
    if found.dtype.kind != "f":
        raise UsageError(tell("{path}: {name} is {kind}, expected float64", path=path, name=name, kind=found.dtype))
    return np.array(found, np.float64)
