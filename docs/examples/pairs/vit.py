"""A small vision transformer (Dosovitskiy et al. 2021), written once over the `nn` of either framework."""

import numpy as np

WIDTH, DEPTH, HEADS, SIZE, PATCH, BATCH, CLASSES = 192, 4, 3, 32, 4, 16, 10
optimizer = {"name": "AdamW", "lr": 5e-4, "weight_decay": 0.05, "grad_clip": 1.0}

def _model(nn):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
            self.softmax = nn.Softmax(-1)
        def forward(self, x):
            n, tokens, _ = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(n, tokens, 3, HEADS, WIDTH // HEADS)
            q, k, v = (qkv[:, :, part].permute(0, 2, 1, 3) for part in range(3))
            weights = self.softmax(q @ k.permute(0, 1, 3, 2) * (WIDTH // HEADS) ** -0.5)
            x = x + self.out((weights @ v).permute(0, 2, 1, 3).reshape(n, tokens, WIDTH))
            return x + self.mlp(self.norm2(x))
        execute = forward  # what PyTorch calls forward, Jittor calls execute

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
            self.place = nn.Embedding((SIZE // PATCH) ** 2, WIDTH)
            self.layers = nn.Sequential(*[Layer() for _ in range(DEPTH)])
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        def forward(self, x):
            x = self.patches(x).reshape(x.shape[0], WIDTH, -1).permute(0, 2, 1) + 0.02 * self.place.weight
            return self.head(self.norm(self.layers(x)).mean(1))
        execute = forward

    return ViT()

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
