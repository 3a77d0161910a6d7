"""Rules of drawing and naming that have changed since the first runs, by name, with the number of how they are now.

A run keeps the rules that it began with to its end: they are facts of its plan, and one that is not there is as it was
before it had a name. Knows which jobs a rule concerns; what it computes stands where it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping

from batchgen.job import Job, Sampling
from batchgen.run.found_model import FoundModel

# 2: a derived seed has the 32 bits that torch takes, and those of a prompt's images all differ. Before: 53 bits.
SEEDS = "derived seeds"
# 2: the levels of `simple` are ComfyUI's, int(step × (1000 / steps)). Before: int(step × 1000 / steps).
SIMPLE = "levels of simple"
# 2: a projection in a single file of CLIP-L is left out, as Stability's code and ComfyUI do. Before: it was applied.
PROJECTION = "projection of CLIP-L"
# 2: guidance that is asked for in none of the steps is refused, and so are other steps than sampling.sigmas has.
# Before: such images were drawn, and recorded with settings that nothing did.
IDLE = "idle settings"
DRAWING = (SIMPLE, PROJECTION)  # decide pixels beside a row's own values, which hold its seed
NOW = 2


def of(job: Job, model: FoundModel) -> dict[str, int]:
    """The rules of a new run, those that concern it."""
    concerned = {
        SEEDS: job.sampling.seeds is None,
        SIMPLE: job.sampling.schedule == "simple" or "schedule" in job.sweep.keys,
        IDLE: True,
        PROJECTION: bool(model.left_out or (model.refiner and model.refiner.left_out)),
    }
    return {name: NOW for name, does in concerned.items() if does}


def deciding(rules: Mapping[str, int], sampling: Sampling) -> dict[str, int]:
    """Those that names of images are taken over. sampling: of these images."""
    concerned = [name for name in DRAWING if name != SIMPLE or sampling.schedule == "simple"]
    return {f"rule: {name}": rules[name] for name in concerned if name in rules}


def kept(there: Mapping[str, int]) -> dict[str, int]:
    """Those of a run that this version can keep; with any other, what a job is differs from what the run is."""
    return {name: number for name, number in there.items() if name in (SEEDS, IDLE, *DRAWING) and number == NOW}
