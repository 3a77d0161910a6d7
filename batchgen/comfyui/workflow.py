"""A workflow file → a Graph, from either of the two formats that ComfyUI writes.

Opens the one file it is given and no path that stands in it. Raises Refused for what is no workflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen.comfyui import drawing
from batchgen.comfyui.graph import Graph, Link, Node, printable
from batchgen.errors import Problem, Refused

MAX_BYTES = 16 * 2**20  # the largest published workflows have a few hundred kB
HOW = "In ComfyUI, choose Workflow > Export (API)."


def load(path: Path) -> Graph:
    """Raises Refused where the file is missing, too large, no JSON, or no workflow."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise Refused(f"{path}: has {size:,} bytes, which no workflow has ({MAX_BYTES:,} at most). {HOW}")
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: is not JSON. {HOW}") from error
    try:
        return _graph(content)
    except Refused as refusal:
        raise Refused([Problem(problem.message, f"{path}") for problem in refusal.problems]) from None


def _graph(content: Any) -> Graph:
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        return drawing.graph(content)
    if isinstance(content, dict) and isinstance(content.get("prompt"), dict):
        content = content["prompt"]  # what ComfyUI's POST /prompt takes
    nodes = {id: node for id, node in content.items() if _is_node(node)} if isinstance(content, dict) else {}
    if not nodes:
        raise Refused(f"is not a ComfyUI workflow: neither nodes nor class_type stand in it. {HOW}")
    return Graph({id: _node(id, node, nodes) for id, node in nodes.items()})


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _node(id: str, node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Node:
    """A link is [node, output]; any other value is taken as it is."""
    inputs: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name, value in node["inputs"].items():
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int)):
            inputs[name] = value
        elif not isinstance(value[1], int) or isinstance(value[1], bool):
            absent[name] = f"is linked to {printable(value)}, which is no output"
        elif str(value[0]) not in nodes:
            absent[name] = f"is linked to node {printable(value[0])}, which is not in the workflow"
        else:
            inputs[name] = Link(str(value[0]), value[1])
    meta = node.get("_meta")
    title = printable(meta.get("title", "")) if isinstance(meta, dict) else ""
    return Node(id, printable(node["class_type"]), title, inputs, absent)
