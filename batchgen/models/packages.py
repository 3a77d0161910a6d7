"""Memory settings that cannot work, refused before anything is loaded: a missing package, a pair that excludes itself.

The planner asks on its machine, each actor on its own. Imports no torch and none of the packages.
"""

from __future__ import annotations

import importlib.util

from batchgen.config import Model
from batchgen.errors import Problem, Refused


def refuse_unusable(model: Model) -> None:
    """Raises Refused with every setting of `quantization` and `offload` that cannot be carried out here."""
    chosen = model.quantization.model_dump(exclude_none=True)
    problems = []
    for package in sorted({kind.partition("_")[0] for kind in chosen.values()} & {"bitsandbytes", "torchao"}):
        if importlib.util.find_spec(package) is None:
            message = f"{package} is not installed: run `pip install 'batchgen[quantization]'` on every machine."
            problems.append(Problem(message, "model.quantization"))
    if chosen.get("transformer") == "float8" and model.adapters:
        message = "PEFT cannot multiply in float8, so no LoRA works on it: write torchao_float8 or another."
        problems.append(Problem(message, "model.quantization.transformer"))
    for component, kind in chosen.items():
        where = f"model.quantization.{component}"
        if kind == "bitsandbytes_8bit" and _is_parked(model, component):
            message = "bitsandbytes cannot move 8-bit weights back and forth: write torchao_int8, or offload: none."
            problems.append(Problem(message, where))
        if component == "text_encoder_3" and model.text_encoder_3 is None:
            problems.append(Problem("there is no T5 (text_encoder_3: null): leave this out.", where))
        if component == "text_encoder_3" and kind == "float8" and model.dtype_of(component) == "float16":
            # T5 has weights that overflow in fp16 and are kept in fp32 (diffusers #8604); casting back loses that
            problems.append(Problem("T5 cannot go from float8 to float16: write dtype: bfloat16.", where))
    if problems:
        raise Refused(problems)


def _is_parked(model: Model, component: str) -> bool:
    return model.offload != "none" and (component != "transformer" or model.offload in ("model", "group"))
