"""A workflow → what a job file and a prompt table should say, and what of it they cannot.

All images of a workflow become rows of one table where a row can say what they differ in. Knows no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.columns import MANIFEST
from batchgen.comfyui.findings import Findings, Loss, Reader
from batchgen.comfyui.graph import Graph, Node
from batchgen.comfyui.image import Image, ImageReader
from batchgen.comfyui.passes import KINDS
from batchgen.comfyui.way import Way, WayReader, outputs
from batchgen.comfyui.weights import ModelReader
from batchgen.errors import Problem, Refused


@dataclass(slots=True)
class Imported:
    """model, sampling, refine: sections. rows: of the prompt table. remarks: of settings, by their keys."""

    model: dict[str, Any]
    sampling: dict[str, Any]
    refine: dict[str, Any] | None
    rows: list[dict[str, Any]]
    losses: list[Loss] = field(default_factory=list)
    remarks: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Output:
    """A node that keeps an image, and how far it could be read. image: None where there are problems."""

    node: Node
    way: Way
    findings: Findings
    image: Image | None


def read(graph: Graph, folder: Path | None = None) -> Imported:
    """folder: ComfyUI's folder of models. Raises Refused with everything that keeps the workflow from being read."""
    nodes = outputs(graph)
    if not nodes:
        raise Refused("makes no image: it has no SaveImage, PreviewImage, VAEDecode or sampler that is not muted.")
    for node in nodes:
        if cycle := graph.cycle(node):
            way = " from ".join(str(node) for node in cycle[:8])
            raise Refused(f"its links run in a circle: {way}. Cut one of them, and export again.")
    kept = _last([_read(graph, folder, node) for node in nodes], graph)
    images = {output.node: output.image for output in kept if output.image is not None}
    if not images:
        raise Refused(list(dict.fromkeys(problem for output in kept for problem in output.findings.problems)))
    losses = [loss for output in kept if output.image is not None for loss in output.findings.losses]
    for output in kept:
        if output.image is None:
            why = "; ".join(str(problem) for problem in output.findings.problems)
            losses.append(Loss(str(output.node), f"its image is left out: {why}", ""))
    return _together(images, list(dict.fromkeys(losses)))


def _read(graph: Graph, folder: Path | None, node: Node) -> _Output:
    findings = Findings()
    way = WayReader(graph, findings, node).read()
    image = None
    if way.samplers:
        image = ImageReader(graph, findings, way, ModelReader(graph, findings, folder)).read()
    elif not findings.problems:
        Reader(graph, findings).wrong(node, f"no sampler leads to it that batchgen reads ({', '.join(KINDS)}).")
    return _Output(node, way, findings, None if findings.problems else image)


def _last(outputs: list[_Output], graph: Graph) -> list[_Output]:
    """Without images that a later pass goes on from, and without an image that is saved twice."""
    kept: list[_Output] = []
    for output in outputs:
        sampler = output.way.samplers[-1:]
        again = any(sampler == other.way.samplers[-1:] for other in kept)
        goes_on = [other for other in outputs if sampler and other.image and sampler[0] in other.way.samplers[:-1]]
        for other in goes_on:
            what = "keeps the picture of the first pass; batchgen keeps the last."
            Reader(graph, other.findings).lost(output.node, what, "It is left out.")
        if not goes_on and not (sampler and again):
            kept.append(output)
    return kept


def _together(images: dict[Node, Image], losses: list[Loss]) -> Imported:
    """One job for all images, by the nodes that keep them. Raises Refused where they differ in what no row can say."""
    (first_node, first), *others = images.items()
    if others:
        _move_to_rows(images)
        problems = [
            Problem(f"{first_node} and {node} {difference}. Mute one (Ctrl+M), and export again.")
            for node, image in others
            if (difference := _difference(first, image))
        ]
        if problems:
            raise Refused(problems)
    adapters = {alias: lora for image in images.values() for alias, lora in image.model.get("adapters", {}).items()}
    model = first.model | ({"adapters": adapters} if adapters else {})
    remarks = {key: text for image in images.values() for key, text in image.remarks.items()}
    return Imported(model, first.sampling, first.refine, [image.row for image in images.values()], losses, remarks)


def _move_to_rows(images: dict[Node, Image]) -> None:
    """What images differ in and a row may say goes there; each row is named by the node that keeps its image."""
    settings = [image.sampling for image in images.values()]
    keys = dict.fromkeys(key for sampling in settings for key in sampling if key in MANIFEST)
    differing = [key for key in keys if any(sampling.get(key) != settings[0].get(key) for sampling in settings)]
    for node, image in images.items():
        moved = {key: image.sampling.pop(key) for key in differing if key in image.sampling}
        if "skip_layer_guidance_scale" in differing:
            moved.setdefault("skip_layer_guidance_scale", 0.0)
        image.row = {"id": node.id} | image.row | moved
    skipping = [sampling for sampling in settings if "skip_guidance_layers" in sampling]
    for sampling in settings:
        if skipping and "skip_guidance_layers" not in sampling:
            sampling |= {key: value for key, value in skipping[0].items() if "skip" in key}


def _difference(first: Image, second: Image) -> str:
    """The first thing that two images of a run cannot differ in."""
    sections = (
        ("model", first.model | {"adapters": None}, second.model | {"adapters": None}),
        ("sampling", first.sampling, second.sampling),
        ("refine", first.refine or {}, second.refine or {}),
    )
    for name, left, right in sections:
        for key in sorted({*left, *right}):
            if left.get(key) != right.get(key):
                return f"differ in {name}.{key} ({left.get(key)} and {right.get(key)}), which is one for all of a run"
    return ""
