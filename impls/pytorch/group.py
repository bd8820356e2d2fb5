"""The ranks that train one network together: PyTorch's DistributedDataParallel, over gloo, or NCCL on GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from weakref import ReferenceType, WeakSet, ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from impls.errors import UnavailableError
from impls.pytorch.network import Network, as_run
from impls.ranks import Ranks, meeting_point
from messages import tell

# The first rank draws samples and looks at the held-out images while the others wait. Ranks that die end the others by
# their closed connections, and by the launcher.
PATIENCE = timedelta(hours=12)
LETS_GO_S = 10.0


class Group:
    """See `impls.backend.Group`; one at a time in a process.

    Args:
        ranks: this one's place among them.
        device: where it computes.

    Raises:
        UnavailableError: they do not meet.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.device, self.averages = ranks, device, True
        self.united: WeakSet[DistributedDataParallel] = WeakSet()
        self.sent: list[ReferenceType[Tensor]] = []
        if ranks.local_size == ranks.size:
            # By itself gloo asks for the address of the host's name, which a container may not have.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        where = "env://" if ranks.launcher == "torchrun" else "tcp://{}:{}".format(*meeting_point(os.environ))
        try:
            distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", where,
                                           timeout=PATIENCE, rank=ranks.rank, world_size=ranks.size)
        except (RuntimeError, ValueError) as error:
            raise UnavailableError(tell("the ranks do not meet at {where}: {fault}", where=where,
                                        fault=" ".join(str(error).split())[:200])) from error

    def unite(self, network: Network) -> None:
        """Give a network the first rank's weights, and its gradients, from now on, the mean over all ranks."""
        united = DistributedDataParallel(network.computed, gradient_as_bucket_view=True)
        self.united.add(united)
        self.average(self.averages)
        network.forward = as_run(united, network.device, network.options)

    def average(self, on: bool) -> None:
        """Whether gradients are averaged from the next step on."""
        self.averages = on
        for united in self.united:
            # What DistributedDataParallel.no_sync sets for as long as a block.
            united.require_backward_grad_sync = on

    def all_reducer(self, floats: int) -> Callable[[], None]:
        """A function that sums so many float32 numbers over all ranks where these compute, and waits for it."""
        # Zeros, which no number of sums makes infinite.
        tensor = torch.zeros(floats, device=self.device)

        def reduce() -> None:
            self._sum(tensor)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return reduce

    def total(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all ranks, element by element."""
        tensor = torch.tensor(numbers)
        self._sum(tensor)
        return tensor.numpy()

    def _sum(self, tensor: Tensor) -> None:
        # An object of its own for the same numbers, which is gone as soon as gloo has let go of it.
        sent = tensor.detach()
        distributed.all_reduce(sent)
        # Not before: where a rank has died, the error that is raised holds it.
        self.sent = [*(earlier for earlier in self.sent if earlier() is not None), ref(sent)]

    def close(self) -> None:
        """Leave the others."""
        # A thread of gloo still holds what was summed for a moment, and outlives its group where there was a
        # DistributedDataParallel. To let go it needs Python's lock, and one that asks for it while Python ends aborts
        # the process, whose work is done.
        until = time.monotonic() + LETS_GO_S
        try:
            while any(sent() is not None for sent in self.sent) and time.monotonic() < until:
                time.sleep(0.001)
        finally:
            distributed.destroy_process_group()
