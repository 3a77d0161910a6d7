"""The job file: frozen pydantic models, one per section. An unknown key is an error that names the nearest one."""

from batchgen.job.job import MANIFEST_COLUMNS, Cluster, Errors, Input, Job, OnOverflow, Output, Renderers
from batchgen.job.model import PICKLES, TEXT_ENCODERS, Adapter, Model
from batchgen.job.sampling import LOOP, Refine, Sampling, Sweep, cell_name
from batchgen.job.section import MAX_GUIDANCE, MAX_IMAGES_PER_PROMPT, MAX_SEED, MAX_STEPS, MAX_T5_TOKENS
from batchgen.words import closest, nearest

__all__ = [
    "LOOP",
    "MANIFEST_COLUMNS",
    "MAX_GUIDANCE",
    "MAX_IMAGES_PER_PROMPT",
    "MAX_SEED",
    "MAX_STEPS",
    "MAX_T5_TOKENS",
    "PICKLES",
    "TEXT_ENCODERS",
    "Adapter",
    "Cluster",
    "Errors",
    "Input",
    "Job",
    "Model",
    "OnOverflow",
    "Output",
    "Refine",
    "Renderers",
    "Sampling",
    "Sweep",
    "cell_name",
    "closest",
    "nearest",
]
