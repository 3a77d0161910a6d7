"""Stored pictures of a run, one by one, as they are encoded. Keeps the file that was read last. Knows no target."""

from __future__ import annotations

import pyarrow.parquet as pq

from batchgen.errors import Infrastructure
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run


class Pictures:
    """Rows of a file are mostly wanted one after another, so that each row group is read once. For one thread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._path = ""
        self._held: dict[str, bytes] = {}

    def read(self, path: str, image_id: str) -> bytes:
        """path: the row's column `file`. Raises Infrastructure where it cannot be read."""
        if path != self._path or image_id not in self._held:
            self._hold(path, image_id)
        return self._held[image_id]

    def _hold(self, path: str, image_id: str) -> None:
        try:
            with found_damaged(), self._run.store.open_file(path) as opened:
                file = pq.ParquetFile(opened, page_checksum_verification=True)
                for group in range(file.num_row_groups):
                    ids = file.read_row_group(group, ["image_id"])["image_id"].to_pylist()
                    if image_id not in ids:
                        continue
                    images = file.read_row_group(group, ["image"])["image"].to_pylist()
                    self._path = path
                    self._held = {one: image["bytes"] for one, image in zip(ids, images, strict=True)}
                    return
        except DAMAGED as error:
            raise Infrastructure(f"{self._run.store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error
        raise Infrastructure(f"{self._run.store}/{path}: has no image {image_id}. Run batchgen doctor.")
