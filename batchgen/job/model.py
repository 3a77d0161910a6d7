"""`model:` of a job file: which weights, in which precision, where they lie while they are used.

Knows shapes and ranges only; whether files exist and fit each other is looked at in `weights`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from batchgen.job.presets import PRESETS, Preset
from batchgen.job.section import Section
from batchgen.words import nearest

Dtype = Literal["bfloat16", "float16", "float32"]
# The names of diffusers' quantization backends with what they are told; float8 is its layerwise casting.
Quantization = Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "torchao_int8", "torchao_float8", "float8"]
Kernels = Literal["eager", "compiled", "compiled_fp8"]
Attention = Literal["auto", "cudnn", "flash", "efficient", "flash_3"]
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")  # CLIP-L, CLIP-G and T5 of Stable Diffusion 3
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]  # PEFT makes module names of it


class Adapter(Section):
    """A LoRA: one *.safetensors file. sha256: what it must be; without it, what it is gets recorded."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    scale: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def check_path(self) -> Self:
        if self.path.lower().endswith(PICKLES):
            raise ValueError(f"{self.path} is a pickle, which can run code: convert it to safetensors.")
        if not self.path.endswith(".safetensors"):
            raise ValueError(f"{self.path}: write the path of one *.safetensors file.")
        return self


class Dtypes(Section):
    """A dtype for each component; default is that of all others, and without it the preset's."""

    default: Dtype | None = None
    transformer: Dtype | None = None
    vae: Dtype | None = None
    text_encoder: Dtype | None = None
    text_encoder_2: Dtype | None = None
    text_encoder_3: Dtype | None = None


class Quantizations(Section):
    """How the weights of a component are stored; without one, in its dtype."""

    transformer: Quantization | None = None
    text_encoder: Quantization | None = None
    text_encoder_2: Quantization | None = None
    text_encoder_3: Quantization | None = None


def preset_named(name: object) -> Preset:
    """Raises ValueError with the names that there are."""
    if str(name) not in PRESETS:
        raise ValueError(f"preset {name!r} is not known.{nearest(str(name), PRESETS)} Presets: {', '.join(PRESETS)}.")
    return PRESETS[str(name)]


def _kind(dtype: object) -> str:
    return "each" if isinstance(dtype, dict | Dtypes) else "all"  # so that a mistake is explained once


class Model(Section):
    """Which weights. A preset gives the defaults; pretrained_model_name_or_path replaces its weights.

    pretrained_model_name_or_path: a hub id, a diffusers directory, its URL, or one file of ComfyUI's layout.
    config: of single files, a diffusers directory (weights are not needed) with configs and tokenizers other than the
    preset's.
    text_encoder, text_encoder_2, text_encoder_3, vae: 'auto' is the checkpoint's own; or one *.safetensors file.
    text_encoder_3 null: no T5, its embeddings are zeros, as in diffusers.
    dtype: one for all, or one per component and `default`, as diffusers takes it.
    engine: 'diffusers' renders through the checkpoint's own pipeline class, whatever model it is, for comparisons.
    offload: 'encoders' parks the text encoders on the CPU, and their blocks visit the GPU; with 'model' transformer and
    VAE take turns too; with 'group' the transformer's blocks come and go in every step.
    kernels: 'eager' computes with diffusers' own operations, bit for bit; 'compiled' lets torch.compile fuse the
    transformer's blocks, which takes minutes at the start of each renderer; 'compiled_fp8' multiplies in fp8 there.
    attention: the kernel of the transformer's attention; 'auto' is torch's own choice, which is recorded.
    mirror: a URL that has the same files as the hub. batch_size: 'auto' takes the preset's table. It is part of what
    decides an image (promise P2, docs/output.md).
    """

    preset: str = "sd3.5-medium"
    pretrained_model_name_or_path: str = ""
    revision: str | None = None
    mirror: str | None = None
    engine: Literal["batchgen", "diffusers"] = "batchgen"
    config: str | None = None
    text_encoder: str = "auto"
    text_encoder_2: str = "auto"
    text_encoder_3: str | None = "auto"
    vae: str = "auto"
    dtype: Annotated[Annotated[Dtype, Tag("all")] | Annotated[Dtypes, Tag("each")], Discriminator(_kind)] = "bfloat16"
    quantization: Quantizations = Quantizations()
    offload: Literal["none", "encoders", "model", "group"] = "none"
    vae_tiling: bool = False
    kernels: Kernels = "eager"
    attention: Attention = "auto"
    adapters: dict[Alias, Adapter] = Field(default_factory=dict)
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"

    @property
    def defaults(self) -> Preset:
        return PRESETS[self.preset]

    @property
    def has_own_weights(self) -> bool:
        """Whether a directory, a file or an id of one's own stands in for the weights of an SD3 preset."""
        own = self.pretrained_model_name_or_path not in ("", self.defaults.pretrained_model_name_or_path)
        return own and self.preset not in ("fake", "diffusers")

    @model_validator(mode="before")
    @classmethod
    def fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = preset_named(values.get("preset", "sd3.5-medium"))
        filled = {"dtype": preset.dtype, "pretrained_model_name_or_path": preset.pretrained_model_name_or_path}
        if isinstance(values.get("dtype"), dict):
            values = values | {"dtype": {"default": preset.dtype} | values["dtype"]}
        if values.get("preset") == "diffusers":
            filled["engine"] = "diffusers"
        return filled | values

    def dtype_of(self, component: str) -> str:
        """The dtype of one component's arithmetic, and of its weights unless they are quantized."""
        if isinstance(self.dtype, str):
            return self.dtype
        return getattr(self.dtype, component) or self.dtype.default or self.defaults.dtype

    @property
    def dtypes(self) -> str:
        """For people: 'bfloat16', 'transformer=bfloat16 text_encoder_3=float32'."""
        if isinstance(self.dtype, str):
            return self.dtype
        return " ".join(f"{name}={value}" for name, value in self.dtype.model_dump().items() if value)

    @model_validator(mode="after")
    def check_pickles(self) -> Self:
        for name in ("pretrained_model_name_or_path", *TEXT_ENCODERS, "vae"):
            path = getattr(self, name)
            if path and path.lower().endswith(PICKLES):
                raise ValueError(f"{name} {path} is a pickle, which can run code: convert it to safetensors.")
        return self

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        if self.preset == "diffusers" and self.engine != "diffusers":
            raise ValueError("preset diffusers renders through diffusers' own call: leave engine out.")
        if self.preset == "diffusers" and not self.pretrained_model_name_or_path:
            raise ValueError("preset diffusers is no model: write pretrained_model_name_or_path too.")
        return self

    @model_validator(mode="after")
    def check_mirror(self) -> Self:
        if self.mirror is not None and "://" not in self.mirror:
            raise ValueError(f"mirror {self.mirror} is no URL. A directory goes into pretrained_model_name_or_path.")
        if self.mirror is not None and self.revision is not None:
            raise ValueError("mirror has one version of the files: leave revision out.")
        return self
