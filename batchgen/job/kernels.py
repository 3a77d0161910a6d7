"""Which settings `model.kernels` and `model.attention` cannot go with, so that a job says it before a GPU starts.

Knows settings only; what the torch of a machine can run its renderer looks at (`engines.sd3.attention`).
"""

from __future__ import annotations

from collections.abc import Iterator

from batchgen.job.model import Model

# torch.compile keeps whole blocks: what reaches into a layer while it works (diffusers' layerwise casting, the calls of
# bitsandbytes into its own library) would break them apart, and packed weights of torchao are of our own choice there.
STORED_FOR_EAGER = ("float8", "bitsandbytes_4bit", "bitsandbytes_8bit")


def refuse_impossible_kernels(model: Model, num_gpus: float | None) -> None:
    """Raises ValueError with all that cannot be together. num_gpus: of a renderer, None where nobody has said it."""
    problems = [*_beside(model), *_without_gpu(model, num_gpus)]
    if problems:
        raise ValueError(" ".join(problems))


def _beside(model: Model) -> Iterator[str]:
    if model.kernels == "eager":
        return
    named, stored = f"model.kernels: {model.kernels}", model.quantization.transformer
    if model.offload == "group":
        yield (
            f"{named} does not go with model.offload: group, which takes the blocks away in every step: write "
            "offload: model, or kernels: eager."
        )
    if stored in STORED_FOR_EAGER or (stored and model.kernels == "compiled_fp8"):
        other = "leave it out" if model.kernels == "compiled_fp8" else "write torchao_int8, or leave it out"
        yield f"{named} does not go with model.quantization.transformer: {stored}: {other}, or write kernels: eager."
    if model.kernels == "compiled_fp8" and model.adapters:
        yield f"{named} does not go with model.adapters, whose layers PEFT would leave in {model.dtypes}: {_COMPILED}"
    if model.kernels == "compiled_fp8" and model.dtype_of("transformer") != "bfloat16":
        yield f"{named} computes what is not fp8 in bfloat16: write model.dtype: bfloat16, or {_COMPILED}"


_COMPILED = "write kernels: compiled."


def _without_gpu(model: Model, num_gpus: float | None) -> Iterator[str]:
    if num_gpus != 0 or model.preset == "fake":
        return
    if model.attention != "auto":
        yield f"model.attention: {model.attention} is a GPU's, and cluster.num_gpus is 0: write attention: auto."
    if model.kernels == "compiled_fp8":
        yield f"model.kernels: compiled_fp8 needs a GPU, and cluster.num_gpus is 0: {_COMPILED}"


def gpu_notices(model: Model, num_gpus: float | None) -> Iterator[str]:
    """What a plan says of such settings where nothing obeys them, or where a renderer on a CPU would refuse them."""
    if model.preset == "fake":
        if (model.kernels, model.attention) != ("eager", "auto"):
            yield "model.kernels and model.attention change nothing: preset fake draws without a transformer."
        return
    if num_gpus is not None or model.defaults.gpu:
        return
    asked = [f"model.attention: {model.attention}"] if model.attention != "auto" else []
    asked += ["model.kernels: compiled_fp8"] if model.kernels == "compiled_fp8" else []
    for setting in asked:
        yield f"{setting} needs a GPU for each renderer: write cluster.num_gpus: 1, so that none starts without."
