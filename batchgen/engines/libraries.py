"""torch, diffusers and transformers as all engines use them: dtypes and versions.

Knows no model and no row.
"""

from __future__ import annotations

import diffusers
import torch
import transformers

import batchgen

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


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
