"""The bucket of every image row, as whole arrays: `buckets.py` says what a bucket is.

Knows rows as numbers by prompt row and cell; no texts but whether they are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.buckets import Bucket
from batchgen.manifest.expansion import Expansion

Flags = npt.NDArray[np.bool_]


def has_negative(texts: pa.Array, which: npt.NDArray[np.int64], ours: Mapping[str, pa.Array]) -> Flags:
    """Whether a prompt row has a negative prompt in a cell, (prompt rows, cells). which: positions among texts."""
    there: Flags = np.asarray(pc.not_equal(texts, ""))[which]
    for name in ("negative_prompt_2", "negative_prompt_3"):
        there = there | np.asarray(pc.not_equal(ours[name], ""))[:, None]
    return there


def bucket_labels(settings: Expansion, cells: Mapping[str, Any], negative: Flags, adapters: Sequence[str]) -> Any:
    """str(Bucket) of every prompt row in every cell. adapters: aliases by the number that cells has of them."""
    names = ("height", "width", "num_inference_steps", "max_sequence_length", "adapter")
    flags = [cells[name] > limit for name, limit in (("guidance_scale", 1), ("skip_layer_guidance_scale", 0))]
    one_call = settings.pipeline is not None
    scales, scale = np.unique(cells["guidance_scale"], return_inverse=True)
    shared = [scale.reshape(negative.shape), negative] if one_call else [np.zeros(negative.shape)] * 2
    keys = np.stack([*(cells[name] for name in names), *flags, *shared], axis=-1).astype(np.int64)
    distinct, inverse = np.unique(keys.reshape(-1, keys.shape[-1]), axis=0, return_inverse=True)
    labels = [
        str(
            Bucket.of(
                settings.sampling,
                height=height,
                width=width,
                num_inference_steps=steps,
                max_sequence_length=length,
                adapter=adapters[adapter],
                guidance_scale=2.0 * guided,
                skip_layer_guidance_scale=float(skipped),
                one_call=(float(scales[at]), bool(negated)) if one_call else None,
            )
        )
        for height, width, steps, length, adapter, guided, skipped, at, negated in distinct.tolist()
    ]
    return np.array(labels, object)[inverse].reshape(keys.shape[:-1])
