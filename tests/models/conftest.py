"""The demo checkpoint, loaded once: by batchgen as a renderer and by diffusers as the pipeline to agree with."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library reads it: no test may ask the network

from collections.abc import Callable
from typing import Any

import pytest

from batchgen.engines.protocol import ImageRow
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.weights.digests import digest_of
from batchgen.weights.parts import checked
from batchgen.weights.spec import ModelSpec
from tests.specs import spec_of, with_sampling


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., ModelSpec]:
    digest = digest_of(checked(DEMO_CHECKPOINT))

    def make(**changes: Any) -> ModelSpec:
        values: dict[str, Any] = {
            "preset": "demo",
            "path": str(DEMO_CHECKPOINT),
            "digest": digest,
            "skip_guidance_layers": [1, 2],
            "skip_layer_guidance_stop": 0.6,
        }
        return spec_of(**values | changes)

    return make


@pytest.fixture(scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def renderer(make_spec: Callable[..., ModelSpec], one_thread: None) -> Any:
    from batchgen.engines import load_renderer

    return load_renderer(make_spec())


@pytest.fixture
def sampling(renderer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """sampling(**settings): the renderer, with other settings of the loop."""
    plain = renderer.spec

    def changed(**settings: Any) -> Any:
        monkeypatch.setattr(renderer, "spec", with_sampling(plain, **settings))
        return renderer

    return changed


@pytest.fixture(scope="session")
def bf16_renderer(make_spec: Callable[..., ModelSpec], one_thread: None) -> Any:
    from batchgen.engines import load_renderer

    return load_renderer(make_spec(dtype="bfloat16"))


@pytest.fixture(scope="session")
def load_pipe(one_thread: None) -> Callable[[str], Any]:
    """diffusers' own pipeline with weights of its own, so that nothing batchgen does to its modules can hide."""
    import torch
    from diffusers import StableDiffusion3Pipeline

    def load(dtype: str) -> Any:
        pipe = StableDiffusion3Pipeline.from_pretrained(
            DEMO_CHECKPOINT, dtype=getattr(torch, dtype), use_safetensors=True
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.vae.enable_slicing()  # batchgen decodes per image (README, promise P3)
        return pipe

    return load


@pytest.fixture(scope="session")
def pipe(load_pipe: Callable[[str], Any]) -> Any:
    return load_pipe("float32")


@pytest.fixture(scope="session")
def make_row() -> Callable[..., ImageRow]:
    def make(number: int = 0, **changes: Any) -> ImageRow:
        values: dict[str, Any] = {
            "image_id": f"image-{number}",
            "prompt": f"a red circle on {number} blue squares",
            "height": 64,
            "width": 48,
            "num_inference_steps": 4,
            "guidance_scale": 4.5,
            "max_sequence_length": 16,
            "seed": 1000 + number,
        }
        return ImageRow(**values | changes)

    return make
