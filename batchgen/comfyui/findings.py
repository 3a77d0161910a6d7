"""What is found while a workflow is read: what a job cannot say of it, and what makes it unreadable.

Also the readers' way of looking at a node: the node that feeds an input, a text, a number, also through nodes that only
hold a value. Knows no class of node and no setting of batchgen.
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
    """What is found on the way of one image."""

    losses: list[Loss] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Reader:
    """Reads nodes and notes what it finds. The readers of one image share their Findings."""

    graph: Graph
    findings: Findings

    def lost(self, node: Node, what: str, do: str = "") -> None:
        loss = Loss(str(node), what, do)
        if loss not in self.findings.losses:  # an image may come by a node twice
            self.findings.losses.append(loss)

    def wrong(self, node: Node, message: str) -> None:
        problem = Problem(message, str(node))
        if problem not in self.findings.problems:
            self.findings.problems.append(problem)

    def source(self, node: Node, name: str) -> tuple[Node, int] | None:
        """The node that feeds an input, and which of its outputs. None, and a problem, where nothing is connected."""
        link = node.inputs.get(name)
        if isinstance(link, Link):
            return self.graph.nodes[link.node], link.slot
        self.wrong(node, f"its input {name} {node.absent.get(name, 'is not connected')}. Connect it, and export again.")
        return None

    def feeding(self, node: Node, name: str) -> Node | None:
        """The node that feeds an input, like source()."""
        source = self.source(node, name)
        return source[0] if source else None

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
        """low, high: what a job file takes. What lies outside becomes the nearest that does not, and is a loss."""
        value = self._value(node, name, float)
        if value is None:
            return default
        if not _fits(value, float) or not (isinstance(value, int) or math.isfinite(value)):
            self.wrong(node, f"{name} is {printable(value)}, not a number. Correct it, and export again.")
            return default
        taken: float = min(max(value, low), high)
        if taken != value:
            what = f"{name} {printable(value)} is outside of batchgen's {low:g} to {high:g}."
            self.lost(node, what, f"{taken:g} is written.")
        return taken

    def whole(self, node: Node, name: str, default: int, low: int, high: int) -> int:
        value = self.number(node, name, default, low, high)
        if value != int(value):
            self.wrong(node, f"{name} is {value:g}, not a whole number. Correct it, and export again.")
        return int(value)

    def _value(self, node: Node, name: str, kind: type) -> Any:
        """What an input is set to, or None: it is not set, or computed, which is then a loss."""
        seen: set[str] = set()
        value = node.inputs.get(name)
        while isinstance(value, Link):
            holder = self.graph.nodes[value.node]
            value = _held(holder, kind)
            if value is None or holder.id in seen:
                self.lost(
                    node,
                    f"{name} comes from {holder}, whose value only ComfyUI knows.",
                    "The usual value is written: correct it in the job or the prompt table.",
                )
                return None
            seen.add(holder.id)
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
