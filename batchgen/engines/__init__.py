"""Renderers: one pipeline on one device, encode → denoise → decode. `load_renderer` makes the one that a model needs.

Imports an engine, and torch with it, only when it is made.
"""

from __future__ import annotations

import os

from batchgen.engines.environment import prepare_for_torch
from batchgen.engines.protocol import Renderer
from batchgen.engines.quiet import quieten
from batchgen.weights.spec import ModelSpec


def device_of(spec: ModelSpec) -> str:
    """What tells the device of this process from others of its host: a GPU's UUID. "" where that is the process."""
    if spec.model.preset == "fake":
        from batchgen.engines.fake import DEVICE

        return os.environ.get(DEVICE, "")
    prepare_for_torch()
    from batchgen.engines.device import gpu_uuid, pick_device

    return gpu_uuid(pick_device())


def load_renderer(spec: ModelSpec) -> Renderer:
    """Build the renderer of a model. Raises Refused where the weights are not what the plan saw."""
    if spec.model.preset == "fake":
        from batchgen.engines.fake import FakeRenderer

        return FakeRenderer(spec)
    prepare_for_torch()
    quieten()
    if spec.model.engine == "diffusers":
        from batchgen.engines.any_pipeline import DiffusersRenderer

        return DiffusersRenderer.load(spec)
    from batchgen.engines.sd3.renderer import SD3Renderer

    first = SD3Renderer.load(spec)
    if spec.refine is None:
        return first
    from batchgen.engines.sd3.second_pass import TwoPassRenderer

    return TwoPassRenderer(first, SD3Renderer.load(spec.refiner) if spec.refiner else first, spec.refine)
