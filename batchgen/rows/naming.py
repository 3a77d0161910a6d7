"""What prompt rows and image rows are called, and their derived seeds: `identity` applied to whole tables.

Knows which columns make a name, not how it is hashed. A row has the same names wherever in the manifest it stands;
rows of equal content get the same. The driver, which alone sees all rows, gives these other ones by reidentify().
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import CONTENT, DECIDING
from batchgen.job import Sampling
from batchgen.manifest.values import Rows
from batchgen.rows import identity
from batchgen.rows.expansion import Expansion
from batchgen.run.rules import SEEDS

Ints = npt.NDArray[np.int64]


def prompt_ids(rows: Rows) -> Any:
    """The row's id, or the hash of its content. Bad rows have names too: they are counted and reported."""
    ids: list[str | None] = rows.ours["id"].to_pylist()
    missing = [row for row, name in enumerate(ids) if name is None]
    if missing:
        at = pa.array(missing)
        content = {name: rows.ours[name].take(at).to_pylist() for name in CONTENT}
        content |= {name: _as_text(values.take(at)).to_pylist() for name, values in rows.extras.items()}
        for row, *values in zip(missing, *content.values(), strict=True):
            said = dict(zip(content, values, strict=True))
            if row in rows.complaints:
                said |= {"complaint": rows.complaints.message(row), "line": rows.unreadable.get(row)}
            ids[row] = identity.content_prompt_id(said)
    return np.array(ids, object)


def _as_text(values: pa.Array) -> pa.Array:
    """Extras as text, so that 1 stays itself when a later file makes the column's integers floats."""
    if pa.types.is_date32(values.type) or pa.types.is_time32(values.type):
        values = values.view(pa.int32())
    elif pa.types.is_temporal(values.type):
        values = values.view(pa.int64())
    return values.cast(pa.string())


def derived_seeds(expansion: Expansion, prompt_ids: Any, samples: Any, wanted: Any) -> Ints:
    """Derived seeds where wanted, 0 elsewhere. The same for all cells of a sample, hence made once."""
    derive = identity.derive_seed if SEEDS in expansion.rules else identity.derive_wide_seed
    known: dict[tuple[str, int], int] = {}
    seeds = np.zeros(len(samples), np.int64)
    names, indices = prompt_ids.to_pylist(), samples.tolist()
    for at in np.flatnonzero(wanted).tolist():
        key = (names[at], indices[at])
        if key not in known:
            known[key] = derive(expansion.sampling.seed, *key)
        seeds[at] = known[key]
    return seeds


def image_ids(table: pa.Table, expansion: Expansion) -> pa.Array:
    """Names of image rows. A bad row has no parameters: its name says what was wrong instead.

    Null values are left out of the hash, so that a parameter that comes later changes no name.
    """
    skipping = {cell: _skipping(of.sampling) for cell, of in expansion.cells.items()}
    columns = [table[name].to_pylist() for name in ("prompt_id", "sample_index", "cell", "bucket", "skip_code")]
    deciding = [table[name].to_pylist() for name in DECIDING]
    at_scale = DECIDING.index("skip_layer_guidance_scale")
    names = []
    for prompt_id, sample, cell, bucket, code, *values in zip(*columns, *deciding, strict=True):
        if bucket is None:
            decides: dict[str, Any] = {"skipped": code}
        else:
            decides = {name: value for name, value in zip(DECIDING, values, strict=True) if value is not None}
            decides |= expansion.cells[cell].decides
            if values[at_scale]:
                decides |= skipping[cell]
            if decides.get("adapter"):
                decides["adapter"] = expansion.adapters[decides["adapter"]]
        names.append(identity.image_id(prompt_id, sample, cell, decides))
    return pa.array(names, pa.string())


def _skipping(sampling: Sampling) -> dict[str, Any]:
    """What decides an image whose skip-layer guidance is on."""
    return {
        "skip_guidance_layers": sampling.skip_guidance_layers,
        "skip_layer_guidance_start": sampling.skip_layer_guidance_start,
        "skip_layer_guidance_stop": sampling.skip_layer_guidance_stop,
    }


def reidentify(images: pa.Table, prompt_ids: Sequence[str], expansion: Expansion) -> pa.Table:
    """The same image rows under other prompt_ids, one per image row: new image_ids, new seeds where derived."""
    ids = pa.array(prompt_ids, pa.string())
    changed = pc.not_equal(ids, images["prompt_id"].combine_chunks())
    derived = np.asarray(pc.and_(changed, images["seed_derived"].combine_chunks()))
    if derived.any():
        samples, seeds = images["sample_index"].to_numpy(), images["seed"].combine_chunks()
        kept = np.asarray(seeds.fill_null(0))
        renewed = np.where(derived, derived_seeds(expansion, ids, samples, derived), kept)
        images = replaced(images, "seed", pa.array(renewed, mask=np.asarray(seeds.is_null())))
    images = replaced(images, "prompt_id", ids)
    names = image_ids(images.filter(changed), expansion)
    return replaced(images, "image_id", pc.replace_with_mask(images["image_id"].combine_chunks(), changed, names))


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with other values in one column, and the same schema."""
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)
