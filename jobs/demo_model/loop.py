"""A training loop that can be stopped anywhere: Muon and AdamW, a bar, a state file, a loss plot.

All randomness of step n is a function of (name, n): a run that was stopped and resumed is the run that was not. The
rate is constant until it falls over the last part of the steps, so that a stopped run can be given more of them. Knows
nothing of what is trained.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import torch
from demo_model.muon import Muon
from demo_model.plot import plot
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LambdaLR

SAVE_SECONDS = 180.0
WARM_UP, FALL = 200, 0.3  # steps from nothing to the full rate; share of the steps from there to nothing
MUON = 1.6  # of AdamW's rate
BLOCKS = re.compile(r"\.(attn2?|self_attn|mlp|ff|ff_context|SelfAttention|DenseReluDense)\.(?!relative)")
# (step, randomness for drawing, randomness for noise) -> loss
Step = Callable[[int, Random, torch.Generator], Tensor]


def optimizers_of(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for everything else."""
    inside = {name for name, weight in model.named_parameters() if weight.ndim == 2 and BLOCKS.search(name)}
    matrices = [weight for name, weight in model.named_parameters() if name in inside]
    others = [weight for name, weight in model.named_parameters() if name not in inside]
    adamw = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    if not matrices:
        return [adamw]
    return [adamw, Muon(matrices, lr=MUON * rate)]


def share_of_rate(number: int, steps: int) -> float:
    return min(1.0, (number + 1) / WARM_UP, (steps - number) / (FALL * steps))


def train(name: str, model: nn.Module, step: Step, steps: int, rate: float, folder: Path) -> None:
    """Trains `model` in place for what is left of `steps`; leaves `name`.pt and `name`.png in `folder`."""
    optimizers = optimizers_of(model, rate)
    schedules = [LambdaLR(each, lambda number: share_of_rate(number, steps)) for each in optimizers]
    parts: dict[str, Any] = {"model": model}
    parts |= {f"optimizer {i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule {i}": schedule for i, schedule in enumerate(schedules)}
    state, losses = folder / f"{name}.pt", list[float]()
    if state.exists():
        saved = torch.load(state, weights_only=True, map_location="cpu")
        losses = saved.pop("losses")
        for key, part in parts.items():
            part.load_state_dict(saved[key])

    def save() -> None:
        torch.save(
            {"losses": losses} | {key: part.state_dict() for key, part in parts.items()}, state.with_suffix(".new")
        )
        state.with_suffix(".new").replace(state)
        plot(losses, folder / f"{name}.png", name)

    device = next(model.parameters()).device
    # On CPUs the fused attention is slower than plain products for sequences as short as ours (torch 2.13).
    attention = nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, attention:
        shown, saved_at = bar.add_task(name, total=steps, completed=len(losses)), time.monotonic()
        for number in range(len(losses), steps):
            seed = zlib.crc32(f"{name} {number}".encode())
            with torch.autocast(device.type, torch.bfloat16):
                loss = step(number, Random(seed), torch.Generator().manual_seed(seed))
            model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
            losses.append(float(loss.detach()))
            recent = sum(losses[-50:]) / len(losses[-50:])
            bar.update(shown, completed=number + 1, description=f"{name}, loss {recent:.4f}")
            if time.monotonic() - saved_at > SAVE_SECONDS:
                save()
                saved_at = time.monotonic()
    save()
