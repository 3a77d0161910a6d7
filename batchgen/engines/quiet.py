"""Warnings of torch, diffusers and transformers that are dropped: batchgen says it better, or it is not so.

To be asked before they are imported, as some speak while they are. Knows loggers by name and imports none of them.
"""

from __future__ import annotations

import logging

PHRASES = (
    "part of your input was truncated",  # StableDiffusion3Pipeline, diffusers 0.42.1: it is a column of every row
    "Token indices sequence length is longer",  # tokenization_utils_base, transformers 5.23
    "that should be kept in float32",  # ModelMixin.to, with an empty list of modules: the VAE's second chance
    "inputs will be cast from",  # bitsandbytes 0.50, at each call of each 8-bit layer
    "from kernels-community",  # bitsandbytes 0.50 on a CPU: of a kernel that only makes 4 bits faster
    "requires torchvision",  # transformers' lazy import of image processors that no prompt needs
    # transformers and diffusers import torchao where it is installed, whether it is used or not:
    "Calling register_constant() on Enum subclasses is deprecated",  # torch 2.13, of torchao 0.18
    "Unable to import `torchao` Tensor objects",  # diffusers 0.42.1: of checkpoints that are stored by torchao
)
CHATTY = (
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
    "diffusers.models.modeling_utils",
    "diffusers.quantizers.torchao.torchao_quantizer",
    "transformers.tokenization_utils_base",
    "transformers.utils.import_utils",
    "bitsandbytes.autograd._functions",
    "bitsandbytes.backends.cpu.ops",
    "torch.utils._pytree",
)


class _SaidBetter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(phrase in str(record.msg) for phrase in PHRASES)


QUIETER = _SaidBetter()  # one object, so that adding it twice adds it once


def quieten(*more: str) -> None:
    """more: loggers that say some of it under other names."""
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it complains of kernels for GPUs that are not here
    for name in (*CHATTY, *more):
        logging.getLogger(name).addFilter(QUIETER)
