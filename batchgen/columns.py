"""One table of all columns that a row has, from the manifest to the renderer: what each may hold and what it decides.

Data only; knows no Arrow, no file and no job, so that all rooms can read it. To add a setting that a row may have:
one line here, a field of `job.Sampling`, one of `engines.protocol.ImageRow`, and the engine that obeys it. If it may be
swept, also a field of `job.Sweep` and a matrix of `rows.grid.Grid`; if images of one batch must agree in it, also a
keyword of `rows.buckets.Bucket.of`. A setting that a cell may say and a row may not: one line in OF_CELLS, and a field
of `job.Sweep`. The tests say which of these is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_SEED = 2**63 - 1  # what an int64 column holds; torch.Generator takes 64 bits and its CPU's uses the last 32
NOISES = 2**32
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_IMAGES_PER_PROMPT = 10_000
MAX_T5_TOKENS = 512  # StableDiffusion3Pipeline.check_inputs, diffusers 0.42.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """type: Arrow's name for it, in the plan and in everything that is written after it.

    turn: in which order a manifest's columns are read; the first complaint about a row is the one it is counted under.
    None: no manifest has it. planned: whether plans have it. nullable: in plans.
    encoded: it is text that an encoder reads. limits: lowest and highest value; what sides may be depends on the model.
    code: under which a row is counted whose number cannot be used.
    decides: another value makes another picture. swept: the job may sweep it.
    shared: the images of a batch agree in it, or in what follows from it.
    optional: there are pipelines of diffusers that do not take it.
    """

    name: str
    type: Literal["string", "int32", "int64", "float64"]
    turn: int | None = None
    planned: bool = True
    nullable: bool = True
    encoded: bool = False
    limits: tuple[float, float] | None = None
    code: str = ""
    decides: bool = False
    swept: bool = False
    shared: bool = False
    optional: bool = False


def _name(name: str, type: Literal["string", "int32"] = "string") -> Column:
    return Column(name=name, type=type, nullable=False)


def _text(name: str, turn: int, swept: bool = False) -> Column:
    optional = name != "prompt"
    return Column(name=name, type="string", turn=turn, encoded=True, decides=True, swept=swept, optional=optional)


def _side(name: str, turn: int) -> Column:
    return Column(name=name, type="int32", turn=turn, code="BAD_SIZE", decides=True, swept=True, shared=True)


# In the order of the plan; what only a manifest has stands where its value is checked.
COLUMNS = (
    _name("image_id"),
    _name("prompt_id"),
    _name("sample_index", "int32"),
    _name("cell"),
    Column(name="id", type="string", turn=0, planned=False),
    _text("prompt", 1, swept=True),
    _text("prompt_2", 3),
    _text("prompt_3", 4),
    _text("negative_prompt", 2, swept=True),
    _text("negative_prompt_2", 5),  # null: negative_prompt, as for prompt_2
    _text("negative_prompt_3", 6),
    _side("height", 8),
    _side("width", 9),
    Column(name="requested_height", type="int32"),  # null unless snapped
    Column(name="requested_width", type="int32"),
    Column(name="aspect_ratio", type="string", turn=10, planned=False, decides=True),  # through height and width
    Column(
        name="num_inference_steps", type="int32", turn=12, limits=(1, MAX_STEPS), code="BAD_STEPS",
        decides=True, swept=True, shared=True,
    ),
    Column(
        name="guidance_scale", type="float64", turn=13, limits=(0, MAX_GUIDANCE), code="BAD_GUIDANCE",
        decides=True, swept=True, shared=True,
    ),
    Column(
        name="skip_layer_guidance_scale", type="float64", turn=14, limits=(0, MAX_GUIDANCE), code="BAD_GUIDANCE",
        decides=True, swept=True, shared=True,
    ),
    Column(name="adapter", type="string", turn=16, decides=True, swept=True, shared=True),  # of model.adapters
    Column(
        name="max_sequence_length", type="int32", turn=15, limits=(1, MAX_T5_TOKENS), code="BAD_MAX_SEQUENCE_LENGTH",
        decides=True, swept=True, shared=True, optional=True,
    ),
    # It decides no image: asking for more of them must not rename those that are there.
    Column(
        name="num_images_per_prompt", type="int32", turn=11, limits=(1, MAX_IMAGES_PER_PROMPT), code="BAD_NUM_IMAGES",
        planned=False,
    ),
    Column(name="seed", type="int64", turn=7, limits=(0, MAX_SEED), code="BAD_SEED", decides=True),
)  # fmt: skip

# Settings that a cell of a sweep may say: of the loop, and whether there is a second pass. A run that sweeps one has a
# column of it, and no other run has: a table's own column of this name stays its own where it is not swept. All decide
# pictures, and batches agree in them.
OF_CELLS = {
    "sampler": "string",
    "schedule": "string",
    "shift": "float64",  # null: the checkpoint's
    "guidance_start": "float64",
    "guidance_stop": "float64",
    "negative_prompt_stop": "float64",
    "skip_guidance_layers": "string",  # 7,8,9
    "skip_layer_guidance_start": "float64",
    "skip_layer_guidance_stop": "float64",
    "refine": "bool",
    "reuse": "string",  # blocks_every:2,start:0.3
}

_OF_MANIFESTS = sorted((column.turn, column) for column in COLUMNS if column.turn is not None)
MANIFEST = tuple(column.name for _, column in _OF_MANIFESTS)  # `input.columns` maps the user's names to these
INTEGERS = tuple(column.name for _, column in _OF_MANIFESTS if column.type in ("int32", "int64"))
FLOATS = tuple(column.name for _, column in _OF_MANIFESTS if column.type == "float64")
TEXTS = tuple(column.name for _, column in _OF_MANIFESTS if column.encoded)
CONTENT = tuple(column.name for _, column in _OF_MANIFESTS if column.decides)  # names a prompt row without an id

PLANNED = tuple(column for column in COLUMNS if column.planned)
DECIDING = tuple(column.name for column in PLANNED if column.decides)  # names an image row
SWEPT = tuple(column.name for column in COLUMNS if column.swept)
SHARED = tuple(column.name for column in COLUMNS if column.shared)
OPTIONAL = tuple(column.name for column in COLUMNS if column.optional)
LIMITS = {column.name: column.limits for column in COLUMNS if column.limits is not None}
CODES = {column.name: column.code for column in COLUMNS if column.code}
