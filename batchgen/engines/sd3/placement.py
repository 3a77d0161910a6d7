"""Where the components of a pipeline lie while they are not used: on the device, or in the CPU's memory.

A parked module keeps its weights in the CPU's memory, pinned where the device is a GPU, for as long as the process
lives; the device gets a copy while it is needed, and dropping that copy costs nothing. So weights never travel back, no
matter how they are stored, and a failure in the middle (memory runs out) leaves nothing on the device. Knows modules
and devices; which settings make a job fit `cost.fitting` says.

    none      everything lies on the device
    encoders  text encoders are parked; while prompts are encoded, their blocks come and go one by one
    model     the same, and transformer and VAE take turns
    group     the same as encoders, and the transformer's blocks come and go too, in every step

Blocks come one by one because T5-XXL alone, 9.5 GB in bf16, is larger than the cards for which one parks it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from batchgen.job import TEXT_ENCODERS

TURNS = ("transformer", "vae")


class Parked:
    """The weights of some modules, which lie in the CPU's memory until `bring` and after `park`."""

    def __init__(self, modules: list[nn.Module], device: torch.device) -> None:
        """modules: without their children, which have weights of their own."""
        self.modules, self.device = modules, device
        self._originals: list[tuple[dict[str, Any], str, torch.Tensor]] = []
        kept: dict[int, torch.Tensor] = {}
        for tensors, name, tensor in list(self._tensors()):
            if id(tensor) not in kept:  # T5 has one embedding under two names
                kept[id(tensor)] = _pinned(_moved(tensor, torch.device("cpu")), device)
            self._originals.append((tensors, name, tensor))  # so that no id is used twice
            tensors[name] = kept[id(tensor)]
        self._originals.clear()

    @property
    def is_brought(self) -> bool:
        return bool(self._originals)

    def bring(self) -> None:
        """Nothing where they are there already."""
        if self.is_brought:
            return
        here: dict[int, torch.Tensor] = {}
        for tensors, name, tensor in list(self._tensors()):
            if id(tensor) not in here:
                here[id(tensor)] = _moved(tensor, self.device)
            self._originals.append((tensors, name, tensor))
            tensors[name] = here[id(tensor)]

    def park(self) -> None:
        for tensors, name, original in self._originals:
            tensors[name] = original
        self._originals.clear()

    def _tensors(self) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
        """Also what came later than __init__: an adapter's weights."""
        for module in self.modules:
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        yield tensors, name, tensor


class Placement:
    """Puts the components of a pipeline where `offload` says, and brings them when their turn comes."""

    def __init__(self, pipe: Any, offload: str, device: torch.device) -> None:
        self.device = device
        self._turns: dict[str, Parked] = {}
        for name in (*TEXT_ENCODERS, *TURNS):
            component = getattr(pipe, name)
            if component is None:
                continue
            if offload != "none" and (name in TEXT_ENCODERS or (offload == "group" and name == "transformer")):
                stream(component, device)
            elif offload == "model":
                self._turns[name] = Parked(list(component.modules()), device)
            else:
                component.to(device)

    @property
    def brought(self) -> list[str]:
        """The components that take turns and lie on the device now."""
        return [name for name, parked in self._turns.items() if parked.is_brought]

    def rest(self) -> None:
        """Make room for another pipeline: whatever takes turns leaves the device."""
        for parked in self._turns.values():
            parked.park()

    def use(self, name: str) -> None:
        """Before a component works: those that take turns with it make room."""
        if name in self._turns:
            for other, parked in self._turns.items():
                if other != name:
                    parked.park()
            self._turns[name].bring()


def stream(component: nn.Module, device: torch.device) -> None:
    """Park a component; in each forward, what is no block comes for as long as it lasts, and block after block."""
    blocks = list(_blocks(component))
    inside = {id(module) for block in blocks for module in block.modules()}
    _visit(component, Parked([module for module in component.modules() if id(module) not in inside], device))
    for block in blocks:
        _visit(block, Parked(list(block.modules()), device))


def _blocks(component: nn.Module) -> Iterator[nn.Module]:
    """The outermost lists of equal layers: transformer_blocks, encoder.block, text_model.encoder.layers."""
    for child in component.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def _visit(module: nn.Module, parked: Parked) -> None:
    module.register_forward_pre_hook(lambda *_: parked.bring())
    module.register_forward_hook(lambda *_: parked.park(), always_call=True)  # also when memory runs out inside


@torch.inference_mode(False)  # weights made under inference mode cannot be viewed like others
@torch.no_grad()
def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device, of the same kind; the original stays as it is."""
    state = getattr(tensor, "quant_state", None)
    if state is not None:  # of bitsandbytes' NF4, whose scales lie beside the weight and move in place
        tensor = copy.copy(tensor)
        tensor.quant_state = copy.copy(state)  # type: ignore[attr-defined]
    moved = tensor.to(device, non_blocking=device.type == "cuda")
    if isinstance(tensor, nn.Parameter) and not isinstance(moved, nn.Parameter):
        moved = nn.Parameter(moved, requires_grad=False)
    return moved


def _pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """In memory that a GPU copies from without waiting; packed weights, which cannot all be pinned, as they are."""
    if device.type != "cuda" or type(tensor) not in (torch.Tensor, nn.Parameter):
        return tensor
    pinned = tensor.data.pin_memory()
    return nn.Parameter(pinned, requires_grad=False) if isinstance(tensor, nn.Parameter) else pinned
