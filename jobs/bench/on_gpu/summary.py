"""The figures of a run in a few keys: seconds an image by way of computing, and what each is worth.

Arithmetic on what sections found; what was not measured is left out.
"""

from __future__ import annotations

from typing import Any

from on_gpu.model_in_hand import rounded

# Where the experiments are that stand for a way of computing. All but reuse compute every step as it was asked for.
WAYS = {"compiled": "compiled", "cudnn": "compiled cudnn", "flash_3": "flash_3", "fp8": "compiled_fp8"}


def summary(values: dict[str, Any], side: int, tflop_per_image: float) -> dict[str, Any]:
    """seconds_per_image: of encoding, denoising and decoding. Speedups: against eager pipe(), and pipe() compiled."""
    eager = values.get("eager") or values.get("speed", {}).get(str(side), {})
    encode_s = eager.get("encode_s_per_image") or values.get("encode", {}).get("seconds_per_text")
    if encode_s is None:
        return {}
    found = {"eager": eager["seconds_per_image"]} if "seconds_per_image" in eager else {}
    experiments = values.get("experiment", {})
    for way, name in WAYS.items():
        one = experiments.get(name, {})
        found |= _with_reuse(way, one, encode_s) if "denoise_s_per_image" in one else {}
    best = min(found, key=lambda way: found[way], default=None)
    pipes = _pipes(eager, experiments, encode_s)
    said: dict[str, Any] = {"seconds_per_image": found, "best": best, **pipes}
    if best:
        said["speedup_best"] = {name: rounded(seconds / found[best]) for name, seconds in pipes.items()}
        said["speedup"] = {way: rounded(found["eager"] / seconds) for way, seconds in found.items() if "eager" in found}
    peak = values.get("ceiling", {}).get("sustained_tflop_per_s")
    if peak:
        exact = {way: seconds for way, seconds in found.items() if way in ("eager", "compiled", "cudnn", "flash_3")}
        said["share_of_ceiling_sustained"] = {
            way: rounded(tflop_per_image / (seconds - encode_s) / peak) for way, seconds in exact.items()
        }
    return said


def _with_reuse(way: str, one: dict[str, Any], encode_s: float) -> dict[str, float]:
    beside = encode_s + one["decode_s_per_image"]
    found = {way: rounded(one["denoise_s_per_image"] + beside)}
    for schedule, reused in one.get("reuse", {}).items():
        prefix = "" if way == "compiled" else f"{way}, "
        found[f"{prefix}reuse of {schedule}"] = rounded(reused["denoise_s_per_image"] + beside)
    return found


def _pipes(eager: dict[str, Any], experiments: dict[str, Any], encode_s: float) -> dict[str, float]:
    """pipe() compiled was given embeddings: ours are added, which are cheaper than its own."""
    found = {}
    if "pipe_seconds_per_image" in eager:
        found["pipe_seconds_per_image"] = eager["pipe_seconds_per_image"]
    compiled = experiments.get("pipe compiled", {}).get("pipe_s_per_image_without_encoding")
    if compiled is not None:
        found["pipe_compiled_seconds_per_image"] = rounded(compiled + encode_s)
    return found


def bits_differ(values: dict[str, Any]) -> list[str]:
    """Where rows depend on more than themselves and their batch size: what breaks promise P2."""
    answers = {"encode": values.get("encode", {}).get("alike")}
    for name in ("alike", "experiment"):
        for part, found in values.get(name, {}).items():
            answers |= {f"{name} {part}: {kind}": answer for kind, answer in found.get("rows", {}).items()}
            answers[f"{name} {part}: same_latents"] = found.get("same_latents")
    return [name for name, answer in answers.items() if answer is False]
