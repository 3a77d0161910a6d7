"""Single files → modules: each component of ComfyUI's layout as diffusers and transformers would have loaded it.

Which file has what, and that names and shapes fit, weights.singlefile has checked from the headers; here every name
must be used and none may be missing. Tensors in fp8 are cast up to the component's dtype. Knows no devices, no prompts.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import safe_open

from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.run.rules import PROJECTION
from batchgen.weights.contents import SCALES, UNREAD
from batchgen.weights.locate import Verified
from batchgen.weights.singlefile import Origin

Tensors = dict[str, torch.Tensor]
MODEL_CLASSES = {"transformer": diffusers.SD3Transformer2DModel, "vae": diffusers.AutoencoderKL}
ENCODER_CLASSES = {
    "text_encoder": transformers.CLIPTextModelWithProjection,
    "text_encoder_2": transformers.CLIPTextModelWithProjection,
    "text_encoder_3": transformers.T5EncoderModel,
}
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def components(model: Model, weights: Verified, rules: Collection[str] = ()) -> dict[str, Any]:
    """Component → module on the CPU, of those that single files bring; None for what the job does without."""
    origins, directory = weights.origins, weights.directory
    found = {name: load(name, origin, directory, model.dtype_of(name), rules) for name, origin in origins.items()}
    return found | dict.fromkeys(weights.dropped)


def load(component: str, origin: Origin, directory: Path, dtype: str, rules: Collection[str] = ()) -> Any:
    """One module, in evaluation mode. rules: of run.rules, those that the run keeps.

    Raises Refused where a tensor is missing or one too many.
    """
    found = tensors(origin, getattr(torch, dtype))
    if component in MODEL_CLASSES:
        model = MODEL_CLASSES[component].from_single_file(
            found,
            config=str(directory),
            subfolder=component,
            dtype=getattr(torch, dtype),
            local_files_only=True,
        )
        left = [name for name, value in model.state_dict().items() if value.is_meta]
        return model if not left else _refuse(origin, left)
    if PROJECTION in rules:
        found = {name: value for name, value in found.items() if name not in origin.left_out}
    return _encoder(component, found, origin, directory, dtype)


def tensors(origin: Origin, dtype: torch.dtype) -> Tensors:
    """A component's tensors by their names without the prefix; fp8 in dtype, scaled fp8 multiplied out."""
    with safe_open(origin.file, "pt") as file:
        own = [name for name in file.keys() if name.startswith(origin.prefix)]  # noqa: SIM118
        found = {name.removeprefix(origin.prefix): file.get_tensor(name) for name in own}
    scales = {name: found.pop(name) for name in list(found) if name.endswith(SCALES)}
    found = {name: value for name, value in found.items() if not name.endswith(UNREAD)}
    for name, value in found.items():
        if value.dtype in FLOAT8:
            scale = scales.get(f"{name.removesuffix('.weight')}.scale_weight")
            found[name] = value.to(dtype) if scale is None else (value.float() * scale.float()).to(dtype)
    return found


def _encoder(component: str, found: Tensors, origin: Origin, directory: Path, dtype: str) -> Any:
    kind = ENCODER_CLASSES[component]
    config = kind.config_class.from_pretrained(directory / component, local_files_only=True)
    if component == "text_encoder" and "text_projection.weight" not in found:
        found["text_projection.weight"] = torch.eye(config.projection_dim)  # as SD3's files mean it: content.optional
    if component == "text_encoder_3":
        found["encoder.embed_tokens.weight"] = found["shared.weight"]  # one table, whatever the config says of tying
    # dtype in here and not through .to(): for fp16, transformers keeps T5's `wo` in fp32 (diffusers #8604)
    model, report = kind.from_pretrained(
        None, config=config, state_dict=found, dtype=getattr(torch, dtype), output_loading_info=True
    )
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *map(str, report["mismatched_keys"])]
    return model.eval() if not wrong else _refuse(origin, wrong)


def _refuse(origin: Origin, names: list[str]) -> Any:
    raise Refused(
        f"model.{origin.setting} {origin.file}: its tensors do not fit the installed transformers "
        f"{transformers.__version__} and diffusers {diffusers.__version__} ({', '.join(sorted(names)[:3])}): install "
        "the versions of infra/constraints.txt."
    )
