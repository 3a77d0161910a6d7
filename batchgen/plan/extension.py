"""What `--extend` adds to a run: image rows that no generation has planned.

Those that were planned must be in the new job too. Knows plans and image_ids, not how rows come about. Holds 18 bytes
a planned image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.columns import OF_CELLS
from batchgen.errors import RunMismatch
from batchgen.run.directory import Run

UNNAMED = "00" * 16
Packed = npt.NDArray[np.bytes_]  # image_ids as 16 bytes each


class Extension:
    """take() all image rows of the new job, in any order; what comes out is to be planned. Then check().

    replaces: image_ids that were skipped when they were planned, and are not any more.
    """

    def __init__(self, run: Run, extras: Sequence[pa.Field]) -> None:
        """Raises RunMismatch where other columns pass through than those of the run."""
        self._run = run
        self._check_columns(extras)
        self.replaces: list[str] = []
        ids, rendered = [np.empty(0, "S16")], [np.empty(0, bool)]
        for plan in run.plans:
            for table in run.planned_ids(plan):
                ids.append(_packed(table["image_id"].to_pylist()))
                rendered.append(np.asarray(pc.is_null(table["skip_code"])))
        self._ids, at = np.unique(np.concatenate(ids), return_inverse=True)
        self._rendered = np.zeros(len(self._ids), bool)
        self._rendered[at[np.concatenate(rendered)]] = True  # skipped in one generation, rendered in a later one
        self._seen = np.zeros(len(self._ids), bool)

    def take(self, table: pa.Table) -> pa.Table:
        """The rows of table, of schema.expanded_schema, that are not planned yet."""
        if not len(table) or not len(self._ids):
            return table
        ids = _packed(table["image_id"].to_pylist())
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[at] == ids
        self._seen[at[known]] = True
        revived = known & ~self._rendered[at] & np.asarray(pc.is_null(table["skip_code"]))
        self.replaces += table.filter(pa.array(revived))["image_id"].to_pylist()
        return table.filter(pa.array(~known | revived))

    def check(self) -> None:
        """Raises RunMismatch unless every image that was to be rendered is still in the job."""
        lost = self._rendered & ~self._seen
        if not lost.any():
            return
        name = self._ids[lost][0].ljust(16, b"\0").hex()
        raise RunMismatch(
            f"{self._run.store}: cannot be extended: {lost.sum()} of the {self._rendered.sum()} images that were "
            f"planned are not in the new job, such as {name}. An extension adds rows, samples or cells and changes "
            "none; a removed or edited row, other defaults, or a sweep where there was none make other images. "
            f"Undo that, or begin another run beside it: {self._run.elsewhere}"
        )

    def _check_columns(self, extras: Sequence[pa.Field]) -> None:
        there = self._run.plan_schema()
        if there is None:
            return
        before, now = _types(schema.extras_of(there)), _types(extras)
        if before != now:
            names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            differ = ", ".join(f"sweep.{name}" if name in OF_CELLS else name for name in names)
            raise RunMismatch(
                f"{self._run.store}: cannot be extended: the columns that pass through differ ({differ}), and all "
                "files of a run have the same. Keep the table's columns and the settings that cells say, or begin "
                "another run beside it: " + self._run.elsewhere
            )


def _types(extras: Iterable[pa.Field]) -> dict[str, str]:
    return {field.name: str(field.type) for field in extras}


def _packed(image_ids: Sequence[str]) -> Packed:
    """image_ids as 16 bytes. Rows that stand for an unreadable piece have none, so they always count as new."""
    return np.frombuffer(bytes.fromhex("".join(image_id or UNNAMED for image_id in image_ids)), "S16")
