"""Makes safetensors of two scorers that were published as pickles, once. Both digests are recorded beside them.

    python jobs/convert_scorer.py hps HPS_v2.1_compressed.pt models/hps_v2.1
    python jobs/convert_scorer.py aesthetic sac+logos+ava1-l14-linearMSE.pth models/sac+logos+ava1-l14-linearMSE

hps: of xswu/HPSv2 on the hub, an open_clip ViT-H-14, becomes a CLIPModel of transformers with CLIP's words. aesthetic:
of christophschuhmann/improved-aesthetic-predictor. Pickles are read with weights_only=True, which runs no code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from batchgen.weights.vocabularies import clip_files

HEADS = 16  # of both towers of ViT-H-14 (open_clip, model_configs/ViT-H-14.json: 1280 / 80 and 16)
NAMES = {  # of open_clip → of transformers
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "logit_scale": "logit_scale",
}
PARTS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
IN_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


def of_transformers(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an open_clip model under the names that transformers gives them."""
    for name, tensor in state.items():
        block = BLOCK.fullmatch(name.replace("in_proj_", "in_proj."))
        if name in NAMES:
            yield NAMES[name], tensor
        elif name in TRANSPOSED:
            yield TRANSPOSED[name], tensor.T.contiguous()
        elif block:
            tower = "vision_model" if block[1] else "text_model"
            layer = f"{tower}.encoder.layers.{block[2]}"
            if block[3] == "attn.in_proj":
                for part, values in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{layer}.self_attn.{part}_proj.{block[4]}", values.contiguous()
            else:
                yield f"{layer}.{IN_BLOCK[block[3]]}.{block[4]}", tensor
        elif (part := name.rpartition("."))[0] in PARTS:
            yield f"{PARTS[part[0]]}.{part[2]}", tensor


def config_of(state: dict[str, Tensor], heads: int) -> CLIPConfig:
    """By the shapes of the tensors; what they do not show is ViT-H-14's."""
    conv, places = state["visual.conv1.weight"], len(state["visual.positional_embedding"])
    words, longest = len(state["token_embedding.weight"]), len(state["positional_embedding"])
    patch = conv.shape[-1]

    def tower(prefix: str) -> dict[str, Any]:
        fc = state[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"]
        depth = len([name for name in state if re.fullmatch(rf"{prefix}transformer\.resblocks\.\d+\.ln_1\.bias", name)])
        return {
            "hidden_size": fc.shape[1], "intermediate_size": fc.shape[0], "num_hidden_layers": depth,
            "num_attention_heads": heads, "hidden_act": "gelu",
        }  # fmt: skip

    side = patch * round((places - 1) ** 0.5)
    text = tower("") | {"vocab_size": words, "max_position_embeddings": longest, "eos_token_id": words - 1}
    vision = tower("visual.") | {"image_size": side, "patch_size": patch}
    dimensions = state["text_projection"].shape[1]
    text["projection_dim"] = vision["projection_dim"] = dimensions
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=dimensions)


def convert_hps(state: dict[str, Tensor], directory: Path, heads: int = HEADS) -> None:
    """Raises ValueError where the tensors are not those of such a model."""
    config = config_of(state, heads)
    with torch.device("meta"):
        model = CLIPModel(config)
    missing, unknown = model.load_state_dict(dict(of_transformers(state)), strict=False, assign=True)
    if missing := [name for name in missing if "position_ids" not in name] or unknown:
        raise ValueError(f"this is no open_clip model of the layout of ViT-H-14: {sorted(missing)[:5]}")
    model.save_pretrained(directory, safe_serialization=True)
    side = config.vision_config.image_size
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side).save_pretrained(directory)
    for name, data in clip_files().items():
        (directory / name).write_bytes(data)
    words = CLIPTokenizer.from_pretrained(directory, pad_token="<|endoftext|>", model_max_length=77)
    words.save_pretrained(directory)


def convert_aesthetic(state: dict[str, Tensor], directory: Path) -> None:
    if not all(re.fullmatch(r"layers\.\d+\.(weight|bias)", name) for name in state):
        raise ValueError(f"this is no head of linear layers: {sorted(state)[:5]}")
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"clip": "openai/clip-vit-large-patch14"}))


class Kind(StrEnum):
    hps = "hps"
    aesthetic = "aesthetic"


def main(
    kind: Annotated[Kind, typer.Argument()],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As it was published.")],
    directory: Annotated[Path, typer.Argument(help="For --with, for example --with hps=DIRECTORY.")],
) -> None:
    """Convert one file."""
    state = torch.load(file, weights_only=True, map_location="cpu")
    state = state.get("state_dict", state)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    {Kind.hps: convert_hps, Kind.aesthetic: convert_aesthetic}[kind](state, directory)
    made = directory / "model.safetensors"
    record = {"from": file.name, "from_sha256": sha256(file), "to": made.name, "to_sha256": sha256(made)}
    (directory / "conversion.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


if __name__ == "__main__":
    typer.run(main)
