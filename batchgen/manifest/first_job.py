"""A first job file for a table of prompts: its columns looked at, every setting there with what it does.

Writes text; decides nothing that the user could not change in it. Knows columns and presets, no models and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchgen.columns import MANIFEST
from batchgen.job import Input
from batchgen.job.file import inline_yaml
from batchgen.job.names import guess
from batchgen.job.presets import PRESETS, Preset
from batchgen.manifest.columns import MAX_EXTRAS
from batchgen.manifest.sources import Sources, column_names, find_sources
from batchgen.schema import OWN_COLUMNS
from batchgen.words import visible


def job_text(manifest: str, out: str, preset: str = "sd3.5-medium") -> str:
    """A commented job file. Raises Refused where the table cannot be read or its columns need a decision."""
    names = column_names(manifest)
    columns = mapped(names)
    keep = [name for name in names if columns.get(name, name) not in MANIFEST]
    sources = find_sources(Input(path=manifest, columns=columns, keep_columns=keep[:MAX_EXTRAS]))
    return TEMPLATE.format(
        manifest=inline_yaml(manifest),
        looked=_looked(sources, columns),
        columns=inline_yaml(columns),
        kept=_kept(keep),
        preset=preset,
        out=inline_yaml(out),
        **_defaults(PRESETS[preset]),
    )


def mapped(names: Sequence[str]) -> dict[str, str]:
    """What `input.columns` should say of a table with these columns: other names of ours, and names that are taken."""
    taken = [name for name in names if name in OWN_COLUMNS and name not in MANIFEST]
    return guess(names) | {name: f"source_{name}" for name in taken}


def _kept(names: Sequence[str]) -> str:
    """input.keep_columns; names: of the user's own columns, of which only so many can pass."""
    if len(names) <= MAX_EXTRAS:
        return "# keep_columns: [NAME, ...]  # pass only these of your own columns through"
    return (
        f"# There are {len(names)} columns of your own, and {MAX_EXTRAS} can pass through: these are the first.\n"
        f"  keep_columns: {inline_yaml([*names[:MAX_EXTRAS]])}"
    )


def _looked(sources: Sources, columns: Mapping[str, str]) -> str:
    passing = [field.name for field in sources.extras]
    lines = [f"{sources.rows:,} rows. Columns with a meaning: {', '.join(sources.columns)}."]
    if passing:
        lines.append(f"These pass through to the output: {', '.join(passing)}.")
    lines += sources.notices
    return "\n".join(f"  # {visible(line)}" for line in lines)


def _defaults(preset: Preset) -> dict[str, object]:
    names = ("height", "width", "num_inference_steps", "guidance_scale", "max_sequence_length")
    return {name: getattr(preset, name) for name in names}


TEMPLATE = """\
# A job for batchgen. Look before paying: batchgen plan THIS_FILE, then batchgen render THIS_FILE --limit 20 for a
# preview. All of it: batchgen render THIS_FILE.
# Lines that begin with "#" show what is taken without them. For completion in an editor:
#   batchgen schema > job.schema.json
# yaml-language-server: $schema=job.schema.json

input:
{looked}
  path: {manifest}
  columns: {columns}          # the table's names: ours
  {kept}

model:
  preset: {preset}
  # pretrained_model_name_or_path: /weights/sd3.5-medium   # other weights: a directory or a hub id
  # batch_size: auto           # part of what decides an image

sampling:                      # for what a row does not say
  # height: {height}
  # width: {width}
  # num_inference_steps: {num_inference_steps}
  # guidance_scale: {guidance_scale}
  # max_sequence_length: {max_sequence_length}     # T5 tokens
  # negative_prompt: ""
  num_images_per_prompt: 1
  seed: 0                      # each image derives its own; or seeds: [1, 2], one per image of a prompt

# sweep:                       # every combination is rendered with the same seeds
#   guidance_scale: [3.0, 4.5, 6.0]

output:
  path: {out}
  # image_format: png          # or webp, jpeg, for which image_quality is 1 to 100

errors:
  bad_rows: refuse             # or skip: they stay in the books as failed
  # on_overflow: {{clip: keep, t5: keep}}   # or skip, refuse: prompts that an encoder cuts
  # max_failed_fraction: 0.01

cluster:
  # renderers: {{max_size: 8}}   # otherwise as many as there are GPUs, or cores
  # price_per_gpu_hour: 2.0    # for the estimate of batchgen plan
"""
