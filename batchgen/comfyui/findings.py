"""What is found while a workflow is read: what is lost on the way to a job, and what makes it unreadable.

Also reads single values of nodes, through nodes that only hold a value. Knows the batchgen side of no setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from batchgen.comfyui.graph import Graph, Link, Node, printable
from batchgen.errors import Problem
from batchgen.words import is_plain

# What nodes that hold one value call it: ComfyUI's primitives, and the usual ones of others.
VALUE_NAMES = ("value", "text", "string", "int", "float", "number", "seed", "noise_seed", "Number", "Text", "String")


@dataclass(frozen=True, slots=True)
class Loss:
    """What the workflow does at a node and the job does not. do: what to do about it."""

    node: str
    what: str
    do: str

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.node}: {self.what}", self.do) if part)


@dataclass(slots=True)
class Findings:
    graph: Graph
    losses: list[Loss] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def lost(self, node: Node, what: str, do: str) -> None:
        loss = Loss(str(node), what, do)
        if loss not in self.losses:  # several images may share a node
            self.losses.append(loss)

    def wrong(self, node: Node, message: str) -> None:
        problem = Problem(message, str(node))
        if problem not in self.problems:
            self.problems.append(problem)

    def source(self, node: Node, name: str) -> tuple[Node, int] | None:
        """(node, output) that an input is linked to. None, and a problem, where it must be and is not."""
        link = node.inputs.get(name)
        if isinstance(link, Link):
            return self.graph.nodes[link.node], link.slot
        self.wrong(node, f"its input {name} {node.absent.get(name, 'is not connected')}. Connect it, and export again.")
        return None

    def text(self, node: Node, name: str, default: str = "") -> str:
        value = self._value(node, name, str)
        if isinstance(value, str) and not is_plain(value):
            self.wrong(node, f"{name} holds a control character or half a surrogate pair. Take it out, export again.")
            return default
        if isinstance(value, str):
            return value
        if value is not None:
            self.wrong(node, f"{name} is {printable(value)}, not a text. Correct it, and export again.")
        return default

    def number(self, node: Node, name: str, default: float, low: float, high: float) -> float:
        """Within what a job file takes; what lies outside becomes the nearest, and is a loss."""
        value = self._value(node, name, float)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            self.wrong(node, f"{name} is {printable(value)}, not a number. Correct it, and export again.")
            return default
        taken = min(max(value, low), high)
        if taken != value:
            self.lost(
                node,
                f"{name} {printable(value)} is outside of batchgen's {low:g} to {high:g}.",
                f"{taken:g} is written.",
            )
        return taken

    def whole(self, node: Node, name: str, default: int, low: int, high: int) -> int:
        value = self.number(node, name, default, low, high)
        if value != int(value):
            self.wrong(node, f"{name} is {value:g}, not a whole number. Correct it, and export again.")
        return int(value)

    def _value(self, node: Node, name: str, kind: type) -> Any:
        """What an input is set to, or None: it is not set, or computed, which is then a loss."""
        asked, seen = node, set[str]()
        value = node.inputs.get(name)
        while isinstance(value, Link):
            holder = self.graph.nodes[value.node]
            found = _held(holder, kind)
            if found is None or holder.id in seen:
                self.lost(
                    asked,
                    f"{name} comes from {holder}, whose value only ComfyUI knows.",
                    "The usual value is written: correct it in the job or the prompt table.",
                )
                return None
            seen.add(holder.id)
            value = found
        if value is None and name in node.absent:
            self.wrong(node, f"its input {name} {node.absent[name]}. Connect it, and export again.")
        return value


def _held(node: Node, kind: type) -> Any:
    """The one value that a node holds, if that is all it does: known by its name, or alone of its type."""
    for name in VALUE_NAMES:
        if _fits(node.inputs.get(name), kind) or isinstance(node.inputs.get(name), Link):
            return node.inputs[name] if len(node.links()) <= 1 else None
    fitting = [value for value in (*node.inputs.values(), *node.values) if _fits(value, kind)]
    return fitting[0] if len(fitting) == 1 and not node.links() else None


def _fits(value: Any, kind: type) -> bool:
    return isinstance(value, str) if kind is str else isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)
