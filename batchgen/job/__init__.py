"""The job file: frozen pydantic models, one per section. An unknown key is an error that names the nearest one."""

from batchgen.job.job import Cluster, Errors, Input, Job, OnOverflow, Output, Renderers
from batchgen.job.model import PICKLES, TEXT_ENCODERS, Adapter, Model
from batchgen.job.reuse import Reuse
from batchgen.job.sampling import LATER, LOOP, Refine, Sampling
from batchgen.job.sweep import Sweep, cell_name
from batchgen.words import closest, nearest

__all__ = [
    "LATER",
    "LOOP",
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
    "Reuse",
    "Sampling",
    "Sweep",
    "cell_name",
    "closest",
    "nearest",
]
