"""A first job file for a table of prompts: its columns looked at, every setting there with what it does.

Writes text; decides nothing that the user could not change in it. Knows columns and presets, no models and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchgen.columns import MANIFEST
from batchgen.job import Input
from batchgen.job.file import inline_yaml
from batchgen.job.presets import PRESETS, Preset
from batchgen.manifest.columns import SYNONYMS
from batchgen.manifest.sources import Sources, column_names, find_sources
from batchgen.schema import OWN_COLUMNS
from batchgen.words import visible

# Ours: what published tables call it (DiffusionDB, JourneyDB, Civitai's metadata, A1111's PNG info).
OTHER_NAMES = {
    "prompt": SYNONYMS,
    "negative_prompt": ("negative", "neg_prompt", "negativeprompt"),
    "guidance_scale": ("cfg", "cfg_scale", "cfgscale", "guidance"),
    "num_inference_steps": ("steps", "step", "num_steps", "sampling_steps"),
    "num_images_per_prompt": ("num_images", "n_samples", "num_samples", "samples"),
}


def job_text(manifest: str, out: str, preset: str = "sd3.5-medium") -> str:
    """A commented job file. Raises Refused where the table cannot be read or its columns need a decision."""
    columns = guess(column_names(manifest))
    sources = find_sources(Input(path=manifest, columns=columns))
    return TEMPLATE.format(
        manifest=inline_yaml(manifest),
        looked=_looked(sources, columns),
        columns=inline_yaml(columns),
        preset=preset,
        out=inline_yaml(out),
        **_defaults(PRESETS[preset]),
    )


def guess(names: Sequence[str]) -> dict[str, str]:
    """What `input.columns` should say of a table with these columns: other names of ours, and names that are taken."""
    columns: dict[str, str] = {}
    for ours, others in OTHER_NAMES.items():
        found = [name for word in (ours, *others) for name in names if name.lower() == word]
        if ours not in names and found:
            columns[found[0]] = ours
    taken = [name for name in names if name in OWN_COLUMNS and name not in MANIFEST]
    return columns | {name: f"source_{name}" for name in taken}


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
  # keep_columns: [NAME, ...]  # pass only these of your own columns through

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
  renderers: {{min_size: 1, max_size: 1}}   # as many as there are GPUs to use
  # price_per_gpu_hour: 2.0    # for the estimate of batchgen plan
"""
