"""A workflow as nodes whose inputs are values or links to other nodes, whatever format it came in.

Knows no node class and no file. Muted, bypassed and purely visual nodes are gone by the time a Graph is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TITLE = 80


@dataclass(frozen=True, slots=True)
class Link:
    """An output of a node: outputs are numbered from 0."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """inputs: name → Link or value. absent: name → why an input that was linked has nothing.

    values: what a node of an unknown class is set to, names unknown (UI format only).
    """

    id: str
    kind: str
    title: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        title = f' "{self.title}"' if self.title and self.title != self.kind else ""
        return f"node {printable(self.id)} ({self.kind}{title})"

    def links(self) -> dict[str, Link]:
        return {name: value for name, value in self.inputs.items() if isinstance(value, Link)}


@dataclass(frozen=True, slots=True)
class Graph:
    """nodes: by id, in the order of the file."""

    nodes: Mapping[str, Node]

    def source(self, node: Node, name: str) -> Node | None:
        """The node that an input is linked to, if it is."""
        link = node.inputs.get(name)
        return self.nodes[link.node] if isinstance(link, Link) else None

    def upstream(self, node: Node) -> set[str]:
        """Ids of all nodes that this one depends on, and its own."""
        seen, waiting = {node.id}, [node]
        while waiting:
            for link in waiting.pop().links().values():
                if link.node not in seen:
                    seen.add(link.node)
                    waiting.append(self.nodes[link.node])
        return seen

    def cycle(self, start: Node) -> list[Node]:
        """A way from `start` against the links that comes back to itself, or nothing. The first node is the last."""
        way: list[tuple[Node, list[Link]]] = [(start, [*start.links().values()])]
        on_way, done = {start.id}, set[str]()
        while way:
            node, links = way[-1]
            if not links:
                way.pop()
                on_way.discard(node.id)
                done.add(node.id)
                continue
            following = self.nodes[links.pop().node]
            if following.id in on_way:
                nodes = [node for node, _ in way]
                return [*nodes[[node.id for node in nodes].index(following.id) :], following]
            if following.id not in done:
                on_way.add(following.id)
                way.append((following, [*following.links().values()]))
        return []

    def unread(self, among: Iterable[Node]) -> list[Node]:
        """Those of the nodes that no other node reads."""
        read = {link.node for node in self.nodes.values() for link in node.links().values()}
        return [node for node in among if node.id not in read]


def printable(text: Any) -> str:
    """On one line, without control characters and not long: titles and classes are whatever somebody typed."""
    plain = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    return plain if len(plain) <= MAX_TITLE else plain[: MAX_TITLE - 3] + "..."
