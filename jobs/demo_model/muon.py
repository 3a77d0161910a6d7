"""Muon with the matrices of one shape handled together: a CPU step of torch's own costs more than our gradients do.

Momentum, made orthogonal by five Newton-Schulz steps, in updates as large as AdamW's (arXiv 2502.16982, section 2.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # torch.optim.Muon, torch 2.13
STEPS = 5
SIZE = 0.2  # root mean square of AdamW's updates, same paper


class Muon(torch.optim.Optimizer):
    """For matrices only."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            shapes = defaultdict[torch.Size, list[nn.Parameter]](list)
            for weight in group["params"]:
                shapes[weight.shape].append(weight)
            for shape, weights in shapes.items():
                gradients = torch.stack([weight.grad for weight in weights])
                state = self.state[weights[0]]  # of all weights of this shape
                if not state:
                    state["momentum"] = torch.zeros_like(gradients)
                state["momentum"].lerp_(gradients, 1 - group["momentum"])
                updates = orthogonal(gradients.lerp(state["momentum"], group["momentum"]))
                size = -group["lr"] * SIZE * max(shape) ** 0.5
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """(count, rows, columns) → the same with singular values near 1, in bf16."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
