"""The UI format of a workflow: nodes as they are drawn, with the values of their widgets in a row.

Does what ComfyUI's page does before it runs a workflow (graphToPrompt of its frontend): muted nodes are left out,
bypassed ones hand their input on, reroutes vanish, primitives become values. Knows the order of widgets, no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen.comfyui.graph import Graph, Link, Node, printable
from batchgen.errors import Problem, Refused

MUTED, BYPASSED = 2, 4  # LiteGraph's LGraphEventMode NEVER, and ComfyUI's own
CONTROL = "control_after_generate"  # a widget that the page puts after a seed
CONTROLS = ("fixed", "increment", "decrement", "randomize")
NO_NODES = ("Note", "MarkdownNote", "PrimitiveNode", "Reroute")

SEED = f"noise_seed {CONTROL}"
# The widgets of each class in the order of its INPUT_TYPES, which is the order of widgets_values (ComfyUI 0.3).
TABLE = f"""
BasicScheduler: scheduler steps denoise
CFGGuider: cfg
CLIPLoader: clip_name type device
CLIPSetLastLayer: stop_at_clip_layer
CLIPTextEncode: text
CLIPTextEncodeSD3: clip_l clip_g t5xxl empty_padding
CheckpointLoaderSimple: ckpt_name
ConditioningSetTimestepRange: start end
DualCLIPLoader: clip_name1 clip_name2 type device
EmptyLatentImage: width height batch_size
EmptySD3LatentImage: width height batch_size
ImageScale: upscale_method width height crop
ImageScaleBy: upscale_method scale_by
KSampler: seed {CONTROL} steps cfg sampler_name scheduler denoise
KSamplerAdvanced: add_noise {SEED} steps cfg sampler_name scheduler start_at_step end_at_step return_with_leftover_noise
KSamplerSelect: sampler_name
LatentUpscale: upscale_method width height crop
LatentUpscaleBy: upscale_method scale_by
LoraLoader: lora_name strength_model strength_clip
LoraLoaderModelOnly: lora_name strength_model
ModelSamplingSD3: shift
PrimitiveFloat: value
PrimitiveInt: value {CONTROL}
PrimitiveString: value
PrimitiveStringMultiline: value
RandomNoise: {SEED}
RepeatLatentBatch: amount
SamplerCustom: add_noise {SEED} cfg
SkipLayerGuidanceDiT: double_layers single_layers scale start_percent end_percent rescaling_scale
SkipLayerGuidanceSD3: layers scale start_percent end_percent
TripleCLIPLoader: clip_name1 clip_name2 clip_name3
UNETLoader: unet_name weight_dtype
VAELoader: vae_name
"""
WIDGETS = {kind: names.split() for kind, names in (line.split(":") for line in TABLE.strip().splitlines())}


def graph(content: Mapping[str, Any]) -> Graph:
    """Raises Refused with every node and link that is not written as ComfyUI writes it."""
    problems = [Problem(problem) for problem in _malformed(content)]
    if problems:
        raise Refused(problems)
    return _Drawing(content).graph()


def _malformed(content: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    ids: set[str] = set()
    for number, node in enumerate(content["nodes"], 1):
        if not isinstance(node, dict) or not isinstance(node.get("id"), int | str):
            problems.append(f"the {number}. node has no id: export the workflow again.")
            continue
        name = f"node {printable(node['id'])}"
        if not isinstance(node.get("type"), str):
            problems.append(f"{name} has no type: export the workflow again.")
        if str(node["id"]) in ids:
            problems.append(f"{name} stands twice: export the workflow again.")
        ids.add(str(node["id"]))
        for key in ("inputs", "outputs"):
            slots = node.get(key) or []
            if not isinstance(slots, list) or not all(isinstance(slot, dict) for slot in slots):
                problems.append(f"{name}: its {key} are not a list of slots. Export the workflow again.")
    links = content.get("links") or []
    if not isinstance(links, list):
        return [*problems, "its links are not a list: export the workflow again."]
    wrong = [link for link in links if link is not None and _ends(link) is None]
    return problems + [f"link {printable(link)} is not [id, from, slot, to, slot, type]." for link in wrong]


def _ends(link: Any) -> tuple[str, str, int] | None:
    """(id, node, output) of a link in either way of writing one."""
    keys = ("id", "origin_id", "origin_slot")
    values = [link.get(key) for key in keys] if isinstance(link, dict) else link[:3] if isinstance(link, list) else []
    if len(values) < 3 or not all(isinstance(value, int | str) for value in values) or not isinstance(values[2], int):
        return None
    return str(values[0]), str(values[1]), values[2]


class _Drawing:
    def __init__(self, content: Mapping[str, Any]) -> None:
        self.drawn: dict[str, Mapping[str, Any]] = {str(node["id"]): node for node in content["nodes"]}
        ends = [_ends(link) for link in content.get("links") or [] if link is not None]
        self.links = {end[0]: (end[1], end[2]) for end in ends if end is not None}
        definitions = content.get("definitions")
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        self.subgraphs = {str(subgraph.get("id")) for subgraph in subgraphs or [] if isinstance(subgraph, dict)}

    def graph(self) -> Graph:
        running = {id: node for id, node in self.drawn.items() if node.get("mode", 0) not in (MUTED, BYPASSED)}
        groups = [
            Problem(
                f"node {printable(id)} is a group of nodes. Unpack it (right click on it), or choose Workflow > "
                "Export (API), which has none."
            )
            for id, node in running.items()
            if node["type"] in self.subgraphs or node["type"].startswith(("workflow/", "workflow>"))
        ]
        if groups:
            raise Refused(groups)
        nodes = {id: self._node(id, node) for id, node in running.items() if node["type"] not in NO_NODES}
        return Graph(nodes)

    def _node(self, id: str, drawn: Mapping[str, Any]) -> Node:
        inputs, values = _widgets(drawn)
        absent: dict[str, str] = {}
        for slot in drawn.get("inputs") or []:
            name, link = printable(slot.get("name", "")), slot.get("link")
            if link is None:
                continue
            value, why = self._follow(str(link), str(slot.get("type", "*")))
            inputs.pop(name, None)
            if why:
                absent[name] = why
            else:
                inputs[name] = value
        title = printable(drawn["title"]) if isinstance(drawn.get("title"), str) else ""
        return Node(id, printable(drawn["type"]), title, inputs, absent, values)

    def _follow(self, link: str, kind: str) -> tuple[Any, str]:
        """(Link or value, "") at the far end of a link, through all that only hands it on; or (None, why not)."""
        seen: set[str] = set()
        while link in self.links and link not in seen:
            seen.add(link)
            id, slot = self.links[link]
            node = self.drawn.get(id)
            name = f"node {printable(id)}"
            if node is None:
                return None, f"is linked to {name}, which is not in the workflow"
            mode = node.get("mode", 0)
            if mode == MUTED:
                return None, f"comes from {name}, which is muted"
            if node["type"] == "PrimitiveNode":
                values = node.get("widgets_values")
                return (values[0], "") if isinstance(values, list) and values else (None, f"{name} holds no value")
            if mode != BYPASSED and node["type"] != "Reroute":
                return Link(id, slot), ""
            onward = _handed_on(node, slot, kind)
            if onward is None:
                return None, f"comes from {name}, which hands nothing on"
            link = onward
        if link in seen:
            return None, "comes from a circle of links"
        return None, f"names link {printable(link)}, which is not in the workflow"


def _handed_on(node: Mapping[str, Any], slot: int, kind: str) -> str | None:
    """The link that a reroute or a bypassed node hands on: of equal type, the one of equal place first."""
    slots = node.get("inputs") or []
    if node["type"] == "Reroute":
        links = [each.get("link") for each in slots]
    else:
        outputs = node.get("outputs") or []
        kind = outputs[slot].get("type") if 0 <= slot < len(outputs) else kind
        ordered = [*slots[slot : slot + 1], *slots] if slot >= 0 else slots
        links = [each.get("link") for each in ordered if each.get("type") == kind]
    return next((str(link) for link in links if link is not None), None)


def _widgets(drawn: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Values by name where the class is known or the page wrote names, else just the values."""
    given = drawn.get("widgets_values")
    if isinstance(given, dict):
        return {printable(name): value for name, value in given.items()}, ()
    if not isinstance(given, list):
        return {}, ()
    names = WIDGETS.get(drawn["type"])
    if names is None:
        return {}, tuple(given)
    values, inputs = list(given), {}
    for name in names:
        if not values:
            break
        if name == CONTROL and values[0] not in CONTROLS:
            continue  # written before there was one, or by a program
        inputs[name] = values.pop(0)
    return inputs, ()


PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS = ("prompt", "workflow")  # of text, in which ComfyUI's SaveImage keeps what it ran, and how it was drawn
MAX_PICTURE = 256 * 2**20
MAX_BYTES = 16 * 2**20  # the largest published workflows have a few hundred kB
HOW = "In ComfyUI, choose Workflow > Export (API)."


def load(path: Path) -> Graph:
    """A workflow's file, or a PNG that ComfyUI saved.

    Raises Refused where the file is missing, too large, no JSON, or no workflow.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            is_picture = file.read(len(PNG)) == PNG
        most = MAX_PICTURE if is_picture else MAX_BYTES
        if size > most:
            raise Refused(f"{path}: has {size:,} bytes, which no workflow has ({most:,} at most). {HOW}")
        content = json.loads(_in_picture(path) if is_picture else path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: is not JSON. {HOW}") from error
    try:
        return _graph(content)
    except Refused as refusal:
        raise Refused([Problem(problem.message, f"{path}") for problem in refusal.problems]) from None


def _in_picture(path: Path) -> str:
    """The workflow in the text of a PNG. Raises Refused where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            found = [text for name in CHUNKS if isinstance(text := picture.info.get(name), str)]
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused(f"{path}: is a PNG that cannot be read ({error}).") from error
    if not found:
        raise Refused(
            f"{path}: is a PNG without a workflow. ComfyUI writes one into what it saves, and other programs and web "
            f"sites take it out: ask for the original, or for the workflow. {HOW}"
        )
    if len(found[0]) > MAX_BYTES:
        raise Refused(f"{path}: has a workflow of {len(found[0]):,} characters, which none has. {HOW}")
    return found[0]


def _graph(content: Any) -> Graph:
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        return graph(content)
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
