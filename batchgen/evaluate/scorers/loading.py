"""Models of transformers on a device: from safetensors, without a bar, ready to be asked.

Knows no architecture and nothing of what is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from batchgen.engines.device import pick_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device_named(name: str | None) -> torch.device:
    """None: the GPU of this process, or its CPU."""
    return torch.device(name) if name else pick_device()


def load_model(kind: Any, directory: Path, device: torch.device, dtype: str = "float32") -> Any:
    """kind: a class of transformers with from_pretrained. Code that comes with a model is never run."""
    logging.disable_progress_bar()
    return kind.from_pretrained(directory, dtype=DTYPES[dtype], use_safetensors=True).to(device).eval()
