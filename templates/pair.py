"""Two models of your own, one in PyTorch and one in Jittor, for ddpm-bench to compare.

    python run_bench.py --suite parity --pair FILE.py        do they compute the same?
    python run_bench.py --suite align --pair FILE.py         where not, which layer is the first that differs?
    python run_bench.py --suite train-speed --pair FILE.py   which one trains faster?
    python run_bench.py --suite infer-speed --pair FILE.py   which one runs forward faster?
    python run_bench.py --suite why --pair FILE.py           where does the difference come from?

Each framework runs in a process of its own, and each process calls only its own functions: import PyTorch and Jittor
inside them. This file runs as it is; put your models in place of the two small ones.
"""

import numpy as np

# A constant of your own has capitals, a helper of your own begins with an underscore.
SIZE, CLASSES, BATCH = 64, 10, 32

# How the weights are moved, by the same formula in both: Adam, AdamW or SGD. Also known: betas, eps, momentum,
# nesterov, grad_clip (of the global norm), ema_decay (of averaged weights).
optimizer = {"name": "AdamW", "lr": 1e-3, "weight_decay": 0.01}

# How many images a batch counts, for images per second; without it, the length of its first array.
images = BATCH


def torch_model():
    """The model in PyTorch; it is moved to the device, and both models start from its weights."""
    from torch import nn

    return nn.Sequential(nn.Linear(SIZE, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def jittor_model():
    """The same model in Jittor."""
    from jittor import nn

    return nn.Sequential(nn.Linear(SIZE, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def batch(rng):
    """One batch as numpy arrays, from a numpy.random.Generator; both frameworks get the same ones as tensors."""
    return {"x": rng.standard_normal((BATCH, SIZE), dtype=np.float32), "y": rng.integers(0, CLASSES, BATCH)}


def torch_loss(model, batch):
    """The loss of a batch in PyTorch, one number."""
    from torch.nn import functional

    return functional.cross_entropy(model(batch["x"]), batch["y"])


def jittor_loss(model, batch):
    """The loss of a batch in Jittor, one number."""
    from jittor import nn

    return nn.cross_entropy_loss(model(batch["x"]), batch["y"])


def outputs(model, batch):
    """What is compared, and what a forward pass is in infer-speed, written once for both; without it, the loss."""
    return model(batch["x"])


def names(torch_name):
    """Jittor's name of a weight, where equal names, or shapes and order, do not tell it; None where they do."""
    return None
