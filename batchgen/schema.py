"""Arrow schemas, field by field, of every table that is stored: plan, its index, images, metadata.

Knows no files and no Ray; what a row may ask for stands in `columns`. Flat typed columns: a reader needs nothing of
batchgen to use a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa

from batchgen.columns import OF_CELLS, PLANNED

TOKEN_FIELDS = [
    # Counts include the special tokens and are taken without truncation; the limits are 77, 77 and the row's for T5.
    pa.field("tokens_clip_l", pa.int32()),
    pa.field("tokens_clip_g", pa.int32()),
    pa.field("tokens_t5", pa.int32()),
    pa.field("overflow_clip_l", pa.bool_()),
    pa.field("overflow_clip_g", pa.bool_()),
    pa.field("overflow_t5", pa.bool_()),
    pa.field("t5_over_256", pa.bool_()),  # beyond what SD3.5 was trained on, even where the row's limit allows it
    # The exact text that the encoder does not see, or null.
    pa.field("truncated_clip_l", pa.string()),
    pa.field("truncated_clip_g", pa.string()),
    pa.field("truncated_t5", pa.string()),
    pa.field("negative_overflow", pa.bool_()),  # in any encoder
]

# What a row asks for, and what its prompts are in tokens.
ROW_FIELDS = [
    *(pa.field(column.name, pa.type_for_alias(column.type), nullable=column.nullable) for column in PLANNED),
    *TOKEN_FIELDS,
]

# What the planner adds. shard is null for rows that were skipped; skip_code and skip_message say why.
PLAN_FIELDS = [
    *ROW_FIELDS,
    pa.field("batch_size", pa.int32()),
    pa.field("shard", pa.int32()),
    pa.field("skip_code", pa.string()),
    pa.field("skip_message", pa.string()),
]

# What expanding a manifest tells the planner beside the plan's columns; not kept.
EXPANDED_FIELDS = [
    pa.field("prompt_row", pa.int64(), nullable=False),  # its row (Parquet) or line in the manifest's file, from 1
    pa.field("bucket", pa.string()),  # null for bad rows, which have no parameters
    pa.field("where", pa.string()),  # 'prompts.parquet, row 17'; null for rows without skip_code
    pa.field("seed_derived", pa.bool_(), nullable=False),
    pa.field("idle_skip_layers", pa.bool_()),  # skip-layer guidance is asked for, and guidance is off
    pa.field("idle_negative", pa.bool_()),  # a negative prompt is there, and no step reads it
]

# Where a row of the manifest stands. They pass through like the user's own columns, and where the user has one of the
# same name, theirs is kept. Runs of the first versions have none.
SOURCE_FIELDS = [
    pa.field("source_file", pa.string()),  # as short as tells the files of the manifest apart
    pa.field("source_row", pa.int64()),  # its row (Parquet) or line in that file, from 1
]

# What cells of a sweep say, in runs that sweep it.
CELL_FIELDS = [pa.field(name, pa.type_for_alias(kind)) for name, kind in OF_CELLS.items()]

# The prompt as it stands in the manifest, where a sweep says others: what an image is judged by, however it was asked.
BENCHMARK_PROMPT = pa.field("benchmark_prompt", pa.string())

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

# What rendering adds to an image. batch_size is the shape that was used, planned_batch_size the plan's.
RENDER_FIELDS = [
    pa.field("batch_size", pa.int32()),
    pa.field("planned_batch_size", pa.int32()),
    pa.field("image_height", pa.int32()),  # of the stored picture: larger than height after a second pass
    pa.field("image_width", pa.int32()),
    pa.field("suspect", pa.string()),  # null, or why the picture looks wrong
    pa.field("pixel_sha256", pa.string()),  # over RGB uint8, height × width × 3, row by row
    pa.field("phash", pa.string()),
    pa.field("render_seconds", pa.float64()),  # seconds of the device that this image took
    pa.field("attempt", pa.int32()),  # 1 for the first attempt at the shard
]

# The index of a plan: one row per shard, in order of shard number.
SHARD_FIELDS = [
    pa.field("shard", pa.int32(), nullable=False),
    pa.field("file", pa.string(), nullable=False),  # below the plan's own directory
    pa.field("row_group", pa.int32(), nullable=False),
    pa.field("rows", pa.int32(), nullable=False),
    pa.field("batch_size", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("bucket", pa.string(), nullable=False),  # readable bucket key
    pa.field("cost_tflop", pa.float64(), nullable=False),
]

# Constants of a shard: in its footer, and as columns of the metadata table.
CONSTANT_FIELDS = [
    pa.field("fingerprint", pa.string()),
    pa.field("plan", pa.string()),
    pa.field("model", pa.string()),
    pa.field("revision", pa.string()),
    pa.field("model_digest", pa.string()),
    pa.field("dtype", pa.string()),
    pa.field("settings", pa.string()),  # JSON: what the job says of the model, the loop and a second pass
    pa.field("device", pa.string()),
    pa.field("versions", pa.string()),  # JSON: torch, diffusers, transformers, batchgen
    pa.field("sigmas", pa.list_(pa.float64())),
]

STATUS_FIELDS = [
    pa.field("status", pa.string(), nullable=False),  # ok | failed
    pa.field("error_code", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("shard", pa.int32()),
    pa.field("file", pa.string()),  # data/shard-000123.parquet, null for failed rows
]

OWN_COLUMNS = frozenset(
    field.name
    for field in [
        *PLAN_FIELDS,
        *EXPANDED_FIELDS,
        *RENDER_FIELDS,
        *CONSTANT_FIELDS,
        *STATUS_FIELDS,
        pa.field("image", IMAGE_TYPE),
    ]
)


def plan_schema(extras: Iterable[pa.Field] = ()) -> pa.Schema:
    """One row per image row; extras are the user's columns as they pass through."""
    return pa.schema([*PLAN_FIELDS, *extras])


def expanded_schema(extras: Iterable[pa.Field] = ()) -> pa.Schema:
    """A plan before it has batches and shards."""
    return pa.schema([*PLAN_FIELDS, *extras, *EXPANDED_FIELDS])


def image_schema(extras: Iterable[pa.Field] = ()) -> pa.Schema:
    """A data shard. The metadata makes `datasets` and the Hugging Face viewer show pictures."""
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    image = pa.field("image", IMAGE_TYPE)
    return pa.schema([image, *ROW_FIELDS, *RENDER_FIELDS, *extras], metadata={"huggingface": json.dumps(features)})


def metadata_schema(extras: Iterable[pa.Field] = ()) -> pa.Schema:
    """All but the pictures, failures included."""
    return pa.schema([*STATUS_FIELDS, *ROW_FIELDS, *RENDER_FIELDS, *CONSTANT_FIELDS, *extras])


def extras_of(schema: pa.Schema) -> list[pa.Field]:
    """The user's own columns of a plan, image or metadata schema."""
    return [field for field in schema if field.name not in OWN_COLUMNS]
