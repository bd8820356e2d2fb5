"""ResNet-18 with BatchNorm (He et al. 2016) on images of 32 pixels, written once over the `nn` of either framework."""

import numpy as np

WIDTH, SIZE, BATCH, CLASSES = 64, 32, 8, 10
optimizer = {"name": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4}

def _model(nn):
    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.relu, self.short = nn.ReLU(), None
            if stride != 1 or before != width:
                self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + (x if self.short is None else self.short(x)))

        execute = forward  # what PyTorch calls forward, Jittor calls execute

    widths = [WIDTH * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
    strides = [1, 1, 2, 1, 2, 1, 2, 1]
    blocks = [Block(*each) for each in zip([WIDTH, *widths], widths, strides, strict=False)]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))

def torch_model():
    from torch import nn
    return _model(nn)

def jittor_model():
    from jittor import nn
    return _model(nn)

def batch(rng):
    return {"x": rng.standard_normal((BATCH, 3, SIZE, SIZE), dtype=np.float32), "y": rng.integers(0, CLASSES, BATCH)}

def torch_loss(model, batch):
    from torch import nn
    return nn.CrossEntropyLoss()(model(batch["x"]), batch["y"])

def jittor_loss(model, batch):
    from jittor import nn
    return nn.CrossEntropyLoss()(model(batch["x"]), batch["y"])

def outputs(model, batch):
    return model(batch["x"])
