"""A backend without a framework that runs a pair's file: it calls the functions, the weights are the scripted ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from impls.pair.loaded import Pair

FILE = '''
import numpy as np
BATCH = 6
def torch_model(): return 2.0
def jittor_model(): return 2.0
def batch(rng): return {"x": rng.standard_normal((BATCH, 2)), "y": rng.integers(0, 9, BATCH)}
def torch_loss(model, batch): return model * float(batch["x"].sum())
def jittor_loss(model, batch): return model * float(batch["x"].sum())
'''


def paired(trainer, config, options, process, info, pair):
    """A scripted trainer that also calls the user's functions; `trainer` is its class."""

    class PairTrainer(trainer):
        def __init__(self):
            super().__init__(config, None, options, process, info)
            self.model, self.batches = pair.model(), pair.batches(config.seed)
            self.images_per_step = pair.images(self.batches[0])

        def step(self):
            pair.loss(self.model, self.batches[self.steps % len(self.batches)])
            super().step()

        def probe(self):
            found = pair.outputs(self.model, self.batches[0], float)
            more = 1.5 if "wrong" in options else 1.0
            return {str(number): np.asarray(more * one, np.float32) for number, one in enumerate(found)}

    return PairTrainer()


class ScriptedPairBackend:
    def __init__(self, plain, trainer, file):
        self.plain, self._trainer, self.info = plain, trainer, plain.info
        self.pair = Pair(Path(file), "torch")

    def trainer(self, config, images):
        assert not len(images)
        return paired(self._trainer, config, self.plain.options, self.plain.process, self.info, self.pair)

    def forwards(self, config):
        made = self.trainer(config, ())
        # It leaves no loss.
        made.losses = None
        return made

    def matmul_flops(self, n, repeats):
        return 1e9
