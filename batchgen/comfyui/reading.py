"""A workflow → what a job file and a prompt table should say, and what of it they cannot.

All images of a workflow become rows of one table where a row can say what they differ in. Knows no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batchgen.columns import MANIFEST
from batchgen.comfyui.findings import Findings, Loss
from batchgen.comfyui.graph import Graph, Node
from batchgen.comfyui.image import Image, read_image
from batchgen.comfyui.passes import KINDS
from batchgen.comfyui.places import Models
from batchgen.comfyui.way import Way, outputs, read_way
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
class _Read:
    way: Way
    findings: Findings
    image: Image | None


def read(graph: Graph, models: Models) -> Imported:
    """Raises Refused with everything that keeps the workflow from being read."""
    found = outputs(graph)
    if not found:
        raise Refused("makes no image: it has no SaveImage, PreviewImage, VAEDecode or sampler that is not muted.")
    for output in found:
        if cycle := graph.cycle(output):
            way = " from ".join(str(node) for node in cycle[:8])
            raise Refused(f"its links run in a circle: {way}. Cut one of them, and export again.")
    reads = _last([_read(graph, models, output) for output in found], graph)
    good = [one for one in reads if one.image is not None]
    if not good:
        raise Refused(list(dict.fromkeys(problem for one in reads for problem in one.findings.problems)))
    imported = _together(good)
    for one in reads:
        if one.image is None:
            why = "; ".join(str(problem) for problem in one.findings.problems)
            imported.losses.append(Loss(str(one.way.output), f"its image is left out: {why}", ""))
    return imported


def _read(graph: Graph, models: Models, output: Node) -> _Read:
    findings = Findings(graph)
    way = read_way(findings, output)
    image = None
    if way.samplers:
        image = read_image(findings, models, way)
    elif not findings.problems:
        findings.wrong(output, f"no sampler leads to it that batchgen reads ({', '.join(KINDS)}).")
    return _Read(way, findings, None if findings.problems else image)


def _last(reads: list[_Read], graph: Graph) -> list[_Read]:
    """Without images that a later pass goes on from, and without one image saved twice."""
    kept: list[_Read] = []
    for one in reads:
        own = one.way.samplers[-1:]
        again = any(own == other.way.samplers[-1:] for other in kept)
        goes_on = [other for other in reads if own and other.image is not None and own[0] in other.way.samplers[:-1]]
        for other in goes_on:
            other.findings.lost(
                one.way.output, "keeps the picture of the first pass; batchgen keeps the last.", "It is left out."
            )
        if not goes_on and not (own and again):
            kept.append(one)
    return kept


def _together(reads: list[_Read]) -> Imported:
    """One job for all images. Raises Refused where they differ in what a row cannot say."""
    images = [one.image for one in reads if one.image is not None]
    losses = list(dict.fromkeys(loss for one in reads for loss in one.findings.losses))
    first = images[0]
    if len(images) > 1:
        _move_to_rows(images, [one.way.output for one in reads])
        problems = [
            Problem(f"{reads[0].way.output} and {one.way.output} {difference}. Mute one (Ctrl+M), and export again.")
            for one, image in zip(reads[1:], images[1:], strict=True)
            if (difference := _difference(first, image))
        ]
        if problems:
            raise Refused(problems)
    adapters = {alias: lora for image in images for alias, lora in image.model.get("adapters", {}).items()}
    model = first.model | ({"adapters": adapters} if adapters else {})
    remarks = {key: text for image in images for key, text in image.remarks.items()}
    return Imported(model, first.sampling, first.refine, [image.row for image in images], losses, remarks)


def _move_to_rows(images: list[Image], nodes: list[Node]) -> None:
    """What images differ in and a row may say goes there; each row is named by the node that keeps its image."""
    keys = dict.fromkeys(key for image in images for key in image.sampling if key in MANIFEST)
    differing = [key for key in keys if any(image.sampling.get(key) != images[0].sampling.get(key) for image in images)]
    for image, node in zip(images, nodes, strict=True):
        moved = {key: image.sampling.pop(key) for key in differing if key in image.sampling}
        if "skip_layer_guidance_scale" in differing:
            moved.setdefault("skip_layer_guidance_scale", 0.0)
        image.row = {"id": node.id} | image.row | moved
    skips = [image for image in images if "skip_guidance_layers" in image.sampling]
    for image in images:
        if image not in skips and skips:
            image.sampling |= {key: value for key, value in skips[0].sampling.items() if "skip" in key}


def _difference(one: Image, two: Image) -> str:
    """The first thing that two images of a run cannot differ in."""
    sections = (
        ("model", _without_adapters(one), _without_adapters(two)),
        ("sampling", one.sampling, two.sampling),
        ("refine", one.refine or {}, two.refine or {}),
    )
    for name, left, right in sections:
        for key in sorted({*left, *right}):
            if left.get(key) != right.get(key):
                return f"differ in {name}.{key} ({left.get(key)} and {right.get(key)}), which is one for all of a run"
    return ""


def _without_adapters(image: Image) -> dict[str, Any]:
    return {key: value for key, value in image.model.items() if key != "adapters"}
