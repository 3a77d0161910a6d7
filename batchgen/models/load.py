"""Weights → components: the pipeline class, the dtype and the device are said aloud, nothing is guessed or executed.

Safetensors only, from a directory that `files.verify` has checked against the plan; no code and no pickle of a model
is ever run. Knows nothing of prompts and images.
"""

from __future__ import annotations

import logging
from typing import Any

import diffusers
import torch
import transformers

import batchgen
from batchgen.config import Model
from batchgen.models import original
from batchgen.models.device import pick_device
from batchgen.models.files import WEIGHTS, verify
from batchgen.models.packages import refuse_unusable
from batchgen.models.quantize import quantize
from batchgen.models.renderer import ModelSpec

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class _Needless(logging.Filter):
    """Drops warnings by phrase: what batchgen says better (truncation is a column of every row), and what is not so."""

    PHRASES = (
        "part of your input was truncated",  # StableDiffusion3Pipeline, diffusers 0.42.1
        "Token indices sequence length is longer",  # tokenization_utils_base, transformers 5.23
        "that should be kept in float32",  # ModelMixin.to, with an empty list of modules: the VAE's second chance
        "inputs will be cast from",  # bitsandbytes 0.50, at each call of each 8-bit layer
        "requires torchvision",  # transformers' lazy import of image processors that no prompt needs
    )

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(phrase in str(record.msg) for phrase in self.PHRASES)


NEEDLESS = _Needless()  # one object, so that adding it twice adds it once
CHATTY = (
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.models.modeling_utils",
    "transformers.tokenization_utils_base",
    "transformers.utils.import_utils",
    "bitsandbytes.autograd._functions",
)


def load_pipeline(spec: ModelSpec) -> Any:
    """A StableDiffusion3Pipeline whose weights are stored as the job says; placement.py puts them on a device.

    Raises Refused if the weights are not those of the plan, or if a package to store them is not installed.
    """
    refuse_unusable(spec.model)
    directory = verify(spec)
    logging.getLogger("torchao").setLevel(logging.ERROR)  # PEFT imports it, and it complains of kernels for GPUs
    for name in CHATTY:
        logging.getLogger(name).addFilter(NEEDLESS)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    given = original.components(spec, directory)  # those of single files
    # dtype goes in here and never through .to(): that would cast T5's `wo`, kept in fp32 for fp16 models, and corrupt
    # the embeddings (diffusers #8604).
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(
        directory, dtype=dtypes(spec.model), use_safetensors=True, local_files_only=True, **given
    )
    for name, kind in spec.model.quantization.model_dump(exclude_none=True).items():
        quantize(getattr(pipe, name), kind, DTYPES[spec.model.dtype_of(name)], pick_device())
    return pipe


def dtypes(model: Model) -> dict[str, torch.dtype]:
    """Of each component, as from_pretrained takes them."""
    return {name: DTYPES[model.dtype_of(name)] for name in WEIGHTS}


def versions() -> dict[str, str]:
    """Package → version, of whatever decides pixels; on a CPU also how many threads."""
    found = {
        "batchgen": batchgen.__version__,
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if not torch.cuda.is_available():
        found["threads"] = str(torch.get_num_threads())
    else:
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    return found
