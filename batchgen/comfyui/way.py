"""The way of an image through a workflow: empty latents, passes, enlargements, decoding.

Follows links from an output node upstream. Knows sizes and order, not what the passes do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batchgen.columns import MAX_IMAGES_PER_PROMPT
from batchgen.comfyui.findings import Findings, Reader
from batchgen.comfyui.graph import Graph, Node
from batchgen.comfyui.passes import KINDS

OUTPUTS = ("SaveImage", "PreviewImage", "SaveImageWebsocket", "SaveAnimatedWEBP", "SaveAnimatedPNG")
DECODERS = ("VAEDecode", "VAEDecodeTiled")
ENCODERS = ("VAEEncode", "VAEEncodeTiled")
EMPTY = ("EmptySD3LatentImage", "EmptyLatentImage")
SIDE = (16, 16_384)  # job.section.Side
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
    nodes = [node for node in graph.nodes.values() if node.kind in OUTPUTS]
    for kinds in (DECODERS, KINDS):
        nodes = nodes or graph.unread(node for node in graph.nodes.values() if node.kind in kinds)
    return nodes


class WayReader(Reader):
    """Goes from an output to where the image began."""

    def __init__(self, graph: Graph, findings: Findings, output: Node) -> None:
        super().__init__(graph, findings)
        self.way = Way(output)
        self.pending: list[Enlargement] = []  # enlargements behind which no pass has come yet

    def read(self) -> Way:
        node: Node | None = self.way.output
        while node is not None and node.kind not in EMPTY:
            node = self._behind(node)
        if node is not None:
            self._read_empty(node)
        return self.way

    def _behind(self, node: Node) -> Node | None:
        """The node behind, on the way to the empty latents; what this one does to the image is noted."""
        if node.kind in KINDS:
            self._read_sampler(node)
            return self.feeding(node, "latent_image")
        if node.kind in DECODERS:
            self.way.decoder = self.way.decoder or node
            return self.feeding(node, "samples")
        if node.kind in ENCODERS:
            return self.feeding(node, "pixels")
        name = next((name for name in (*LATENTS, *PICTURES) if name in node.links() or name in node.absent), "")
        if node.kind in OUTPUTS:
            return self.feeding(node, name or "images")
        if not name:
            self.lost(
                node,
                "the image begins here; batchgen begins with noise.",
                "Size and steps of a picture from noise are written: look at height, width and num_inference_steps.",
            )
            return None
        if node.kind in ("LatentUpscale", "LatentUpscaleBy", "ImageScale", "ImageScaleBy"):
            self.pending.insert(0, self._enlargement(node))
        elif node.kind == "RepeatLatentBatch":
            self.way.count *= self.whole(node, "amount", 1, 1, 64)
        else:
            self.lost(node, "changes the image in a way that batchgen does not know.", "It is left out.")
        return self.feeding(node, name)

    def _read_sampler(self, node: Node) -> None:
        if self.way.samplers:
            self.way.between.insert(0, self.pending)
        elif self.pending:
            self.lost(self.pending[0].node, "enlarges after the last pass, without denoising.", "It is left out.")
        self.way.samplers.insert(0, node)
        self.pending = []

    def _enlargement(self, node: Node) -> Enlargement:
        method, pixels = self.text(node, "upscale_method", "nearest-exact"), node.kind.startswith("Image")
        if node.kind.endswith("By"):
            return Enlargement(node, method, factor=self.number(node, "scale_by", 1.5, 0.01, 8.0), pixels=pixels)
        width, height = (self.whole(node, name, 1024, 0, SIDE[1]) for name in ("width", "height"))
        return Enlargement(node, method, to=(width, height), pixels=pixels)

    def _read_empty(self, node: Node) -> None:
        way, most = self.way, MAX_IMAGES_PER_PROMPT
        way.width, way.height = (self.whole(node, name, 1024, *SIDE) for name in ("width", "height"))
        way.count = min(way.count * self.whole(node, "batch_size", 1, 1, most), most)
        if self.pending:
            written = f"height × width {way.height} × {way.width} is written: correct it."
            self.lost(self.pending[0].node, "enlarges empty latents.", written)
