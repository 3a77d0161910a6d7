"""Pictures that are alike: whose perceptual hashes differ in few bits. Knows hashes, and no picture."""

from __future__ import annotations

import binascii

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.view.table import Numbers, Table

HASH = "[0-9a-f]{16}"


def near(table: Table, among: Numbers, number: int, bits: int) -> Numbers:
    """Those of some rows whose pictures differ in at most so many bits from that of a row, the nearest first.

    Raises Refused where that row has no picture.
    """
    values, known = _hashes(table.column("phash"))
    if not known[number]:
        raise Refused("this row has no picture, so that nothing is like it.")
    distance = np.bitwise_count(values[among] ^ values[number])
    alike = np.flatnonzero(known[among] & (distance <= bits))
    return among[alike[np.argsort(distance[alike], kind="stable")]]


def _hashes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """As numbers, and which of them are known."""
    texts = column.cast(pa.string())
    known = pc.fill_null(pc.match_substring_regex(texts, f"^{HASH}$"), False)
    digits = "".join(pc.if_else(known, texts, "0" * 16).to_pylist())
    return np.frombuffer(binascii.unhexlify(digits), ">u8").astype(np.uint64), known.to_numpy()
