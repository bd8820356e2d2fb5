"""The ranks that train one network together: Jittor's operators of MPI, and of NCCL on GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jittor as jt
import numpy as np
from jittor import Var
from numpy.typing import NDArray

from impls.errors import UnavailableError
from impls.jittor.network import Network
from impls.ranks import Ranks
from messages import tell


class Group:
    """See `impls.backend.Group`; MPI itself began when Jittor was imported, and ends with the process.

    Args:
        ranks: this one's place among them.

    Raises:
        UnavailableError: MPI tells of others.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.averages = ranks, True
        if (jt.rank, jt.world_size) != (ranks.rank, ranks.size):
            raise UnavailableError(tell("MPI says that this is rank {rank} of {size}, its launcher rank {own_rank} "
                                        "of {own_size}: start it by the mpirun that belongs to mpicc", rank=jt.rank,
                                        size=jt.world_size, own_rank=ranks.rank, own_size=ranks.size))

    def unite(self, network: Network) -> None:
        """Give a network the first rank's weights; its gradients are averaged by `mean`."""
        for p in network.params.values():
            p.update(p.mpi_broadcast(0))
            # One by one: ranks that broadcast in another order would mix the weights up.
            p.sync()

    def mean(self, grads: Sequence[Var]) -> Var:
        """The mean over all ranks of gradients, in one flat array: one message instead of hundreds.

        Jittor's own optimisers do so in their backward pass, after which they broadcast the weights. Ours takes
        `jt.grad`, which speaks to nobody.
        """
        flat = jt.concat([grad.flatten() for grad in grads])
        return flat.mpi_all_reduce("mean") if self.averages else flat

    def average(self, on: bool) -> None:
        """Whether gradients are averaged from the next step on."""
        self.averages = on

    def all_reducer(self, floats: int) -> Callable[[], None]:
        """A function that sums so many float32 numbers over all ranks where these compute, and waits for it."""
        var = jt.zeros((floats,))
        var.sync(True)

        def reduce() -> None:
            var.mpi_all_reduce("add").sync(True)

        return reduce

    def total(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all ranks, element by element."""
        with jt.flag_scope(use_cuda=0):
            var = jt.array(numbers, dtype="float64")
            var.sync(True)
            jt.mpi.var_all_reduce(var)
            return var.numpy().copy()

    def close(self) -> None:
        """Nothing to do; the mirror of PyTorch's."""
