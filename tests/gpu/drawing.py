"""The demo checkpoint on a GPU: renderers by their settings, rows of one bucket, and pictures of them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from batchgen.engines import load_renderer
from batchgen.engines.protocol import ImageRow, Renderer
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.weights.locate import locate
from tests.specs import spec_of

GIVEN = {"height": 128, "width": 128, "num_inference_steps": 8, "guidance_scale": 4.5, "max_sequence_length": 64}


def renderer_of(**settings: Any) -> Renderer:
    """settings: keys of model or of sampling."""
    files = locate(Model(preset="demo", pretrained_model_name_or_path=str(DEMO_CHECKPOINT)))
    return load_renderer(spec_of(preset="demo", path=files.path, digest=files.digest, **settings))


def rows(*prompts: str, **values: Any) -> list[ImageRow]:
    return [ImageRow(image_id=str(n), prompt=prompt, seed=n, **GIVEN | values) for n, prompt in enumerate(prompts)]


def render(renderer: Renderer, todo: Sequence[ImageRow]) -> list[Any]:
    """Pictures (height, width, 3) uint8."""
    return renderer.decode(renderer.denoise(todo, renderer.encode(todo)), range(len(todo)))


def same(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """Whether no bit of any picture differs, and all are there."""
    pairs = list(zip(ours, theirs, strict=True))
    return bool(pairs) and all(x is not None and y is not None and np.array_equal(x, y) for x, y in pairs)


def peak_of(settings: dict[str, Any], todo: Sequence[ImageRow]) -> tuple[int, list[Any]]:
    """Bytes that loading and rendering took at most, and the pictures."""
    render(renderer_of(**settings), todo)  # libraries allocate workspaces at their first call
    gc.collect()  # that renderer, whose hooks know its modules
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    renderer = renderer_of(**settings)
    torch.cuda.reset_peak_memory_stats()
    pictures = render(renderer, todo)
    return torch.cuda.max_memory_allocated() - before, pictures
