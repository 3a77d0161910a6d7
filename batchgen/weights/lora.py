"""The LoRA files of a job: where they lie, whether they fit the model, what they are by sha256.

For the planner: reads names and shapes of tensors, no weights; imports no torch. diffusers loads what it knows and
leaves the rest out with a log line at most, so what it would leave out is refused here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from batchgen.errors import Problem, Refused
from batchgen.job import Model
from batchgen.run.found_model import AdapterFile, FoundModel
from batchgen.storage.mirror import mirror_file
from batchgen.weights.digests import hash_all
from batchgen.weights.headers import Shape, Shapes, read_shapes, shapes_in
from batchgen.weights.shapes import adaptable
from batchgen.words import redact

PARTS = ("transformer", "text_encoder", "text_encoder_2")  # SD3LoraLoaderMixin._lora_loadable_modules, diffusers 0.42.1
# PEFT's names and those of older diffusers: the factor that comes first, and the one that comes second.
DOWN, UP = ("lora_A", "lora.down", "lora_linear_layer.down"), ("lora_B", "lora.up", "lora_linear_layer.up")
OTHER_HALF = dict(zip(DOWN + UP, UP + DOWN, strict=True))
TENSOR = re.compile(
    rf"(?P<part>{'|'.join(PARTS)})\.(?P<layer>.+)\.(?P<half>{'|'.join(map(re.escape, OTHER_HALF))})\.weight"
)


def locate_adapters(model: Model, base: FoundModel | None) -> dict[str, AdapterFile]:
    """Alias → file. base: the model that they are for, where it was found. Raises Refused with all problems."""
    problems, found = list[Problem](), dict[str, AdapterFile]()
    layers = _layers(base) if base and model.adapters else {}
    for alias, adapter in model.adapters.items():
        where = f"model.adapters.{alias}"
        try:
            file = fetch(adapter.path)
            sha256 = hash_all({"": file})[""]
            complaints = list(_complaints(file, layers))
        except Refused as refused:
            problems += [Problem(problem.message, where) for problem in refused.problems]
            continue
        if adapter.sha256 not in (None, sha256):
            complaints.insert(0, f"is {sha256[:12]}..., not {adapter.sha256[:12]}... as sha256 says: another file.")
        problems += [Problem(f"{redact(adapter.path)} {text}", where) for text in complaints]
        path = adapter.path if "://" in adapter.path else str(file)
        found[alias] = AdapterFile(path=path, sha256=sha256, scale=adapter.scale)
    if problems:
        raise Refused(problems)
    return found


def _layers(base: FoundModel) -> dict[str, Shapes]:
    """Of the weights, where they lie here in diffusers' layout; else as the configs of the model say."""
    directory = Path(base.path)
    found = adaptable(base.tokenizers)
    return found | {
        part: shapes for part in PARTS if part not in base.files and (shapes := shapes_in(directory / part))
    }


def fetch(path: str) -> Path:
    """The file on this machine's disk; one at a URL is copied there once. Raises Refused where there is none."""
    if "://" in path:
        return mirror_file(path)
    file = Path(path).expanduser()
    if not file.is_file():
        raise Refused(f"{redact(path)} does not exist: write the path of one *.safetensors file.")
    return Path(os.path.abspath(file))  # the hub's cache has links to files without a suffix, which is looked at


def _complaints(file: Path, base: Mapping[str, Shapes]) -> Iterable[str]:
    """What keeps this file from being a LoRA of this model, one line each."""
    shapes = read_shapes(file)
    factors = {name: match for name in shapes if (match := TENSOR.fullmatch(name))}
    foreign = [name for name in shapes if name not in factors]
    if len(foreign) == len(shapes):
        yield (
            "is no LoRA that diffusers can read: its tensors must be called transformer.*.lora_A.weight or the like "
            f"(found: {foreign[0] if foreign else 'none'}). Convert it, or write another file."
        )
        return
    if foreign:
        yield f"has {len(foreign)} tensors that would be left out, such as {foreign[0]}: take them out, or convert it."
    halves = [name for name, factor in factors.items() if _other_half(factor) not in shapes]
    if halves:
        yield f"lacks the other factor of {len(halves)} tensors, such as {min(halves)}: download it again."
    wrong = [text for name, factor in factors.items() if (text := _misfit(factor, shapes[name], base))]
    if wrong:
        yield f"is a LoRA of another model: {wrong[0]}" + (f" (and {len(wrong) - 1} more)." if wrong[1:] else ".")


def _other_half(factor: re.Match[str]) -> str:
    """The name of the factor that belongs to this one."""
    return f"{factor['part']}.{factor['layer']}.{OTHER_HALF[factor['half']]}.weight"


def _misfit(factor: re.Match[str], shape: Shape, base: Mapping[str, Shapes]) -> str:
    """Nothing where the factor fits the layer that it is for, or where the base's layers are not known."""
    part, name = factor["part"], factor["layer"]
    if not base.get(part):
        return ""
    layer = base[part].get(f"{name}.weight")
    if layer is None:
        return f"there is no {part}.{name}"
    wide, given = (layer[1], shape[1]) if factor["half"] in DOWN else (layer[0], shape[0])
    return "" if wide == given else f"{factor[0]} is {given} wide, the layer {wide}"
