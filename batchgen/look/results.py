"""A run as data: its rows as pandas, its pictures as PIL, all of it as a `datasets.Dataset`. Changes nothing.

A run that is not finished shows what is committed so far. Knows neither Ray nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from batchgen.errors import Infrastructure, Refused
from batchgen.finalize.metadata import metadata
from batchgen.finalize.proof import proven_books
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.run.layout import DATA
from batchgen.run.parquet import read_parquet
from batchgen.schema import SOURCE_FIELDS
from batchgen.storage.store import Store

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from batchgen.look.training_data import TrainingData


ENCODERS = ("clip_l", "clip_g", "t5")  # whose cuts the metadata records


class Results:
    """What `batchgen.open()` returns. out: the run directory, a path or a URL. Raises Refused where there is no run."""

    def __init__(self, out: str) -> None:
        self.run = Run.open(Store.open(str(out)))

    def __repr__(self) -> str:
        return f"batchgen.open({str(self.run.store)!r})"

    def to_pandas(self) -> pd.DataFrame:
        """Every row of the metadata table, failures included, without the pictures."""
        frame: pd.DataFrame = pa.concat_tables(self.tables(), promote_options="permissive").to_pandas()
        return frame

    def row(self, image_id: str) -> dict[str, Any]:
        """All that is known of one image row. Raises Refused where no such row is known."""
        for table in self.tables():
            found = table.filter(pc.equal(table["image_id"], image_id)).to_pylist()
            if found:
                row: dict[str, Any] = found[0]
                return row
        raise Refused(f"{self.run.store}: no image {image_id!r} is committed here. Look for it in metadata/.")

    def image(self, image_id: str) -> Image.Image:
        """Its picture. Raises Refused where the row failed or is not known."""
        return Image.fromarray(images.decode(self.stored(self.row(image_id))["image"][0].as_py()["bytes"]))

    def stored(self, row: dict[str, Any]) -> pa.Table:
        """The row of data/ that belongs to a row(), with its encoded picture. Raises Refused where the row failed."""
        image_id = row["image_id"]
        if row["status"] != "ok":
            raise Refused(f"{image_id} has no picture: it failed ({row['error_code']}: {row['error_message']}).")
        try:
            with self.run.store.open_file(row["file"]) as opened:
                return pq.read_table(opened, filters=[("image_id", "==", image_id)])
        except FileNotFoundError as error:
            path = f"{self.run.store}/{row['file']}"
            raise Infrastructure(f"{path}: is missing. Run the render command again to render it.") from error

    def dataset(self) -> datasets.Dataset:
        """The pictures with their rows. Needs `pip install datasets`, which keeps a copy in its cache."""
        from datasets import load_dataset
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            return load_dataset("parquet", data_files=f"{self.run.store}/{DATA}/*.parquet", split="train")
        except OfflineModeIsEnabled as error:
            raise Refused(
                f"HF_HUB_OFFLINE keeps the datasets library from reading {self.run.store}: unset it for this process, "
                "or copy the run to a disk and open it there."
            ) from error

    def torch(
        self,
        columns: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        image_ids: Collection[str] | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> TrainingData:
        """The pictures with their rows as an IterableDataset, for a DataLoader with any number of nodes and workers.

        An example is `{"image": uint8 tensor (3, height, width), "prompt": str, ...}`. columns: None is all of data/
        that are not null throughout; a null is "" in text and NaN in numbers. transform: what makes `image` of that.
        image_ids: of the pictures to take, None for all. batch_size: makes batches of pictures of one size, for a
        DataLoader with batch_size=None. shuffle: another order in every epoch, by seed and set_epoch().
        """
        from batchgen.look.training_data import TrainingData
        from batchgen.look.training_rows import TrainingRows

        if batch_size is not None and batch_size < 1:
            raise Refused(f"batch_size={batch_size}: is no size of a batch. Write 1 or more, or None.")
        rows = TrainingRows.of(self.run.store, self._stored(), columns, image_ids)
        return TrainingData(rows, transform, batch_size, shuffle, seed)

    def tables(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The metadata table in pieces; names: only these of its columns, as far as it has them.

        What runs of the first versions did not note is null.
        """
        for table in self._stored(names):
            for field in SOURCE_FIELDS:
                if field.name not in table.column_names and (names is None or field.name in names):
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            yield table

    def _stored(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """As finalize wrote it, or from the shards that are there."""
        said = proven_books(self.run)
        if said is None:
            for table in metadata(self.run, self.run.committed()):
                yield table if names is None else table.select([name for name in names if name in table.column_names])
            return
        for part in said.metadata:
            with self.run.store.open_file(part.path) as opened:
                yield read_parquet(opened, names)


def truncated(run: Run) -> dict[tuple[str, str], list[str]]:
    """(prompt, the end of it that was not read) → the encoders that cut it there, by their names in the columns."""
    cuts: dict[tuple[str, str], list[str]] = {}
    for table in metadata(run):
        for row in table.select(["prompt", *(f"truncated_{encoder}" for encoder in ENCODERS)]).to_pylist():
            for encoder in ENCODERS:
                cut = row[f"truncated_{encoder}"]
                if cut is not None and encoder not in (encoders := cuts.setdefault((row["prompt"], cut), [])):
                    encoders.append(encoder)
    return cuts
