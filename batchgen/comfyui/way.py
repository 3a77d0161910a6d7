"""The way of an image through a workflow: empty latents, passes, enlargements, decoding.

Follows links from an output node upstream. Knows sizes and order; what a pass does is passes.py's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batchgen.columns import MAX_IMAGES_PER_PROMPT
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.graph import Graph, Node
from batchgen.comfyui.passes import KINDS as SAMPLERS

OUTPUTS = ("SaveImage", "PreviewImage", "SaveImageWebsocket", "SaveAnimatedWEBP", "SaveAnimatedPNG")
DECODERS = ("VAEDecode", "VAEDecodeTiled")
ENCODERS = ("VAEEncode", "VAEEncodeTiled")
EMPTY = ("EmptySD3LatentImage", "EmptyLatentImage")
SIDE = (16, 16_384)  # config.section.Side
PICTURES = ("images", "image", "pixels")
LATENTS = ("samples", "latent", "latent_image", "latents")


@dataclass(frozen=True, slots=True)
class Enlargement:
    """Between two passes. factor: of both sides; or to: (width, height) in pixels, 0 where the other decides."""

    node: Node
    method: str
    factor: float = 1.0
    to: tuple[int, int] | None = None
    pixels: bool = False


@dataclass(slots=True)
class Way:
    """samplers: in the order they run. between: what enlarges the latents before each but the first."""

    output: Node
    decoder: Node | None = None
    samplers: list[Node] = field(default_factory=list)
    between: list[list[Enlargement]] = field(default_factory=list)
    width: int | None = None
    height: int | None = None
    count: int = 1


def outputs(graph: Graph) -> list[Node]:
    """Nodes that keep images; where there are none, what decodes or samples and nobody reads."""
    found = [node for node in graph.nodes.values() if node.kind in OUTPUTS]
    for kinds in (DECODERS, SAMPLERS):
        found = found or graph.unread(node for node in graph.nodes.values() if node.kind in kinds)
    return found


def read_way(findings: Findings, output: Node) -> Way:
    """From an output to where the image began."""
    way = Way(output)
    node: Node | None = output
    pending: list[Enlargement] = []
    while node is not None:
        if node.kind in SAMPLERS:
            if way.samplers:
                way.between.insert(0, pending)
            elif pending:
                findings.lost(pending[0].node, "enlarges after the last pass, without denoising.", "It is left out.")
            way.samplers.insert(0, node)
            pending = []
        elif node.kind in EMPTY:
            _read_empty(findings, node, way, pending)
            return way
        node = _onward(findings, node, way, pending)
    return way


def _onward(findings: Findings, node: Node, way: Way, pending: list[Enlargement]) -> Node | None:
    """The node behind, on the way to the empty latents; what this one does to the image is noted."""
    if node.kind in SAMPLERS:
        return _step(findings, node, "latent_image")
    if node.kind in DECODERS:
        if way.decoder is None:
            way.decoder = node
        return _step(findings, node, "samples")
    if node.kind in ENCODERS:
        return _step(findings, node, "pixels")
    name = next((one for one in (*LATENTS, *PICTURES) if one in node.links() or one in node.absent), "")
    if node.kind in OUTPUTS:
        return _step(findings, node, name or "images")
    if not name:
        findings.lost(
            node,
            "the image begins here; batchgen begins with noise.",
            "Size and steps of a picture from noise are written: look at height, width and num_inference_steps.",
        )
        return None
    if (enlargement := _enlargement(findings, node)) is not None:
        pending.insert(0, enlargement)
    elif node.kind == "RepeatLatentBatch":
        way.count *= findings.whole(node, "amount", 1, 1, 64)
    else:
        findings.lost(node, "changes the image in a way that batchgen does not know.", "It is left out.")
    return _step(findings, node, name)


def _step(findings: Findings, node: Node, name: str) -> Node | None:
    found = findings.source(node, name)
    return found[0] if found else None


def _enlargement(findings: Findings, node: Node) -> Enlargement | None:
    if node.kind not in ("LatentUpscale", "LatentUpscaleBy", "ImageScale", "ImageScaleBy"):
        return None
    method, pixels = findings.text(node, "upscale_method", "nearest-exact"), node.kind.startswith("Image")
    if node.kind.endswith("By"):
        factor = findings.number(node, "scale_by", 1.5, 0.01, 8.0)
        return Enlargement(node, method, factor=factor, pixels=pixels)
    width = findings.whole(node, "width", 1024, 0, SIDE[1])
    height = findings.whole(node, "height", 1024, 0, SIDE[1])
    return Enlargement(node, method, to=(width, height), pixels=pixels)


def _read_empty(findings: Findings, node: Node, way: Way, pending: list[Enlargement]) -> None:
    way.width = findings.whole(node, "width", 1024, *SIDE)
    way.height = findings.whole(node, "height", 1024, *SIDE)
    way.count = min(way.count * findings.whole(node, "batch_size", 1, 1, MAX_IMAGES_PER_PROMPT), MAX_IMAGES_PER_PROMPT)
    if pending:
        findings.lost(pending[0].node, "enlarges empty latents.", f"{way.width} × {way.height} is written: correct it.")
