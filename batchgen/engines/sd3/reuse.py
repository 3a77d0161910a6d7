"""What a step takes over from steps before it: the part that the blocks add to their input, and that of guidance.

One object serves one pass over one batch, and nothing outlives it. The schedule is given. Looks at the modules before
and after the blocks only, never into them, so that these may be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from batchgen.job.steps import Reused

Layers = list[int] | None


class Reusing:
    """difference: of the two halves, when both were computed last. guidance: steps that compute one half only."""

    difference: Tensor

    def __init__(self, transformer: Any, reused: Reused) -> None:
        self.guidance = reused.guidance
        self._entrance: nn.Module = transformer.pos_embed  # its output is what the first block takes
        self._exit: nn.Module = transformer.norm_out  # its first argument is what the last block gives
        self._every_block = [*range(len(transformer.transformer_blocks))]
        self._steps = reused.blocks
        self._added: dict[tuple[int, ...], Tensor] = {}  # by the layers that did not run

    def forward(self, step: int, transform: Callable[[Layers], Tensor], without: Layers = None) -> Tensor:
        """A forward pass of this step. transform: the transformer, told which layers not to run; without: those.

        In a step that takes over, no layer runs: what they added in the last step that ran them is added again.
        """
        kind = tuple(without or ())
        if step in self._steps:
            is_last = step + 1 not in self._steps  # then the memory is free before blocks run again
            with self._adding(self._added.pop(kind) if is_last else self._added[kind]):
                return transform(self._every_block)
        if step + 1 not in self._steps:
            return transform(without)
        with self._keeping(kind):
            return transform(without)

    @contextmanager
    def _keeping(self, kind: tuple[int, ...]) -> Iterator[None]:
        entered: list[Tensor] = []

        def enter(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            entered.append(output)

        def leave(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._added[kind] = arguments[0] - entered.pop()

        handles = self._entrance.register_forward_hook(enter), self._exit.register_forward_pre_hook(leave)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _adding(self, added: Tensor) -> Iterator[None]:
        def leave(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return arguments[0] + added, *arguments[1:]

        handle = self._exit.register_forward_pre_hook(leave)
        try:
            yield
        finally:
            handle.remove()
