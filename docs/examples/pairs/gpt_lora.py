"""Two layers of a GPT, frozen but for LoRA in attention (Hu et al. 2022), over the `nn` of either framework."""

import numpy as np

WIDTH, HEADS, RANK, TOKENS, WORDS, BATCH = 128, 4, 8, 64, 512, 8
optimizer = {"name": "AdamW", "lr": 1e-3}

def _model(nn, freeze):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.softmax = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.Softmax(-1)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.down, self.up = nn.Linear(WIDTH, RANK, bias=False), nn.Linear(RANK, 3 * WIDTH, bias=False)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        def forward(self, x, mask):
            y = self.norm1(x)
            qkv = (self.qkv(y) + self.up(self.down(y))).reshape(-1, TOKENS, 3, HEADS, WIDTH // HEADS)
            q, k, v = (qkv[:, :, part].permute(0, 2, 1, 3) for part in range(3))
            scores = q @ k.permute(0, 1, 3, 2) * (WIDTH // HEADS) ** -0.5 + mask
            x = x + self.out((self.softmax(scores) @ v).permute(0, 2, 1, 3).reshape(-1, TOKENS, WIDTH))
            return x + self.mlp(self.norm2(x))
        execute = forward  # what PyTorch calls forward, Jittor calls execute

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.place = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
            self.first, self.second, self.norm = Layer(), Layer(), nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, WORDS, bias=False)
        def forward(self, tokens, mask):
            x = self.second(self.first(self.word(tokens) + self.place.weight, mask), mask)
            return self.head(self.norm(x)).reshape(-1, WORDS)
        execute = forward

    model = GPT()
    for weight in [weight for name, weight in model.named_parameters() if "up." not in name and "down." not in name]:
        freeze(weight)
    return model

def torch_model():
    from torch import nn
    return _model(nn, lambda weight: weight.requires_grad_(False))

def jittor_model():
    from jittor import nn
    return _model(nn, lambda weight: weight.stop_grad())

def batch(rng):
    tokens, mask = rng.integers(0, WORDS, (BATCH, TOKENS + 1)), np.triu(np.full((TOKENS, TOKENS), -1e9, np.float32), 1)
    return {"tokens": tokens[:, :-1], "next": tokens[:, 1:], "mask": mask}

def torch_loss(model, batch):
    from torch import nn
    return nn.CrossEntropyLoss()(model(batch["tokens"], batch["mask"]), batch["next"].reshape(-1))

def jittor_loss(model, batch):
    from jittor import nn
    return nn.CrossEntropyLoss()(model(batch["tokens"], batch["mask"]), batch["next"].reshape(-1))
