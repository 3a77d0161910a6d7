"""torch, diffusers and transformers as all engines use them: dtypes, versions, warnings that are dropped.

Knows no model and no row.
"""

from __future__ import annotations

import logging

import diffusers
import torch
import transformers

import batchgen

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class _SaidBetter(logging.Filter):
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


QUIETER = _SaidBetter()  # one object, so that adding it twice adds it once
CHATTY = (
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.models.modeling_utils",
    "transformers.tokenization_utils_base",
    "transformers.utils.import_utils",
    "bitsandbytes.autograd._functions",
)


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
