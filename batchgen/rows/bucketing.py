"""Which bucket each image row is of: by its columns of the plan, or for all fields of a grid at once.

Knows the job that is expanded; what a bucket costs is known to `buckets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.columns import SHARED
from batchgen.rows.buckets import Bucket
from batchgen.rows.expansion import Expansion
from batchgen.rows.grid import Distinct, Grid

NEGATIVES = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")
BUCKET_COLUMNS = (*SHARED, *NEGATIVES, "cell")  # of a plan: those that bucket_of() looks at


def bucket_of(expansion: Expansion, row: Mapping[str, Any]) -> Bucket:
    """The bucket of an image row; row holds at least its columns of BUCKET_COLUMNS, as in the plan."""
    one_call = None
    if expansion.pipeline is not None:
        one_call = row["guidance_scale"], any(row[name] for name in NEGATIVES)
    cell = expansion.cells[row["cell"]]
    return Bucket.of(cell.sampling, **{name: row[name] for name in SHARED}, one_call=one_call, swept=cell.columns)


def bucket_labels(expansion: Expansion, grid: Grid) -> npt.NDArray[np.object_]:
    """A matrix: str(Bucket) of every field of the grid. A bucket is made once for all fields that must agree in it."""
    alike: list[npt.NDArray[Any]] = [
        grid.height, grid.width, grid.num_inference_steps, grid.max_sequence_length, grid.adapter,
        grid.guidance_scale > 1, grid.skip_layer_guidance_scale > 0,
    ]  # fmt: skip
    if expansion.pipeline is not None:
        alike += [grid.guidance_scale, grid.has_negative()]
    said = [cell.columns for cell in expansion.cells.values()]
    alike.append(np.broadcast_to([said.index(columns) for columns in said], grid.height.shape))
    distinct = Distinct.of(*alike)
    columns = grid.at(distinct.row, distinct.cell)
    columns["cell"] = pa.array([*expansion.cells]).take(pa.array(distinct.cell))
    rows = pa.table({name: columns[name] for name in BUCKET_COLUMNS}).to_pylist()
    return np.array([str(bucket_of(expansion, row)) for row in rows], object)[distinct.kind]
