"""Weights → components: the pipeline class, the dtype and the device are said aloud, nothing is guessed or executed.

Safetensors only, from files that were just checked against the plan; no code and no pickle of a model
is ever run. Knows nothing of prompts and images.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

from batchgen.engines.device import pick_device
from batchgen.engines.libraries import DTYPES
from batchgen.engines.sd3.kernels import refuse_without_fp8
from batchgen.engines.sd3.quantize import multiply_in_fp8, quantize
from batchgen.engines.sd3.single_files import components
from batchgen.job import Model
from batchgen.weights.locate import verify
from batchgen.weights.parts import WEIGHTS
from batchgen.weights.quantization import refuse_unusable
from batchgen.weights.spec import ModelSpec


def load_pipeline(spec: ModelSpec) -> Any:
    """A StableDiffusion3Pipeline whose weights are stored as the job says; `placement` puts them on a device.

    Raises Refused if the weights are not those of the plan, or if a package to store them is not installed.
    """
    refuse_unusable(spec.model)
    weights = verify(spec)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    given = components(spec.model, weights, spec.rules)  # those of single files
    # dtype goes in here and never through .to(): that would cast T5's `wo`, kept in fp32 for fp16 models, and corrupt
    # the embeddings (diffusers #8604).
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(
        weights.directory, dtype=dtypes(spec.model), use_safetensors=True, local_files_only=True, **given
    )
    for name, kind in spec.model.quantization.model_dump(exclude_none=True).items():
        quantize(getattr(pipe, name), kind, DTYPES[spec.model.dtype_of(name)], pick_device())
    if spec.model.kernels == "compiled_fp8":
        refuse_without_fp8(pick_device())
        multiply_in_fp8(pipe.transformer, pick_device())
    return pipe


def dtypes(model: Model) -> dict[str, torch.dtype]:
    """Of each component, as from_pretrained takes them."""
    return {name: DTYPES[model.dtype_of(name)] for name in WEIGHTS}
