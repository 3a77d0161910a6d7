"""What is wrong with one data file, compared with its plan: its bytes, its rows, every picture. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.look.same import differing
from batchgen.run import images
from batchgen.run.damage import found_damaged
from batchgen.run.directory import Run
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.plans import Plan, are_among
from batchgen.run.shard_file import Footer, digest_of_pictures, read_whole

AWAY = "Move it out of data/."
AGAIN = f"{AWAY} Then run the render command again."


@dataclass(frozen=True, slots=True)
class Examined:
    """One data file. ids: of its images. failed: how many rows failed."""

    ids: list[str] = field(default_factory=list)
    failed: int = 0
    problems: list[str] = field(default_factory=list)


def examine_shard(run: Run, plan: Plan, shard: ShardRef) -> Examined:
    """Reads all of it."""
    path = data_path(shard.number)
    try:
        with found_damaged():
            footer, table = read_whole(run.store.read(path))
            ids = [str(image_id) for image_id in table["image_id"].to_pylist()]
            try:
                planned = run.rows(plan, shard)
            except Infrastructure:  # the plan's file is at fault, and already among the problems
                return Examined(ids, len(footer.failures))
            problems = [f"{path}: {problem}" for problem in _problems(plan, shard, planned, footer, table)]
    except FileNotFoundError:
        return Examined(problems=[f"{path}: is missing ({shard.rows} rows). Run the render command again."])
    except (ValueError, OSError) as error:
        return Examined(problems=[f"{path}: is damaged ({error}). {AGAIN}"])
    return Examined(ids, len(footer.failures), problems)


def _problems(plan: Plan, shard: ShardRef, planned: pa.Table, footer: Footer, table: pa.Table) -> Iterator[str]:
    if planned["shard"].to_pylist() != [shard.number] * shard.rows:
        yield f"the index of its plan says {shard.rows} rows, and {plan.directory}/{shard.file} has others there"
    if footer.plan != plan.plan or footer.shard != shard.number:
        yield f"is shard {footer.shard} of plan {footer.plan}. {AGAIN}"
        return
    found, wanted = [*table["image_id"].to_pylist(), *footer.failures], planned["image_id"].to_pylist()
    if Counter(found) != Counter(wanted) or footer.images != len(table):
        yield f"does not hold exactly the rows of its plan. {AGAIN}"
        return
    for name in _other_columns(planned, footer, table):
        yield f"column {name} is not as it was planned. {AGAIN}"
    if footer.pictures is not None and digest_of_pictures(table["image"]) != footer.pictures:
        yield f"its pictures are not those that were rendered. {AGAIN}"
    yield from _picture_problems(table, plan.stored["output"]["image_format"])


def _other_columns(planned: pa.Table, footer: Footer, table: pa.Table) -> list[str]:
    """Columns that differ from the plan's rows, and those that no plan has."""
    planned = planned.filter(pc.invert(are_among(set(footer.failures), planned)))
    planned = planned.append_column("planned_batch_size", planned["batch_size"])
    extras = schema.extras_of(planned.schema)
    known = schema.image_schema(extras).names
    of_rows = [item.name for item in [*schema.ROW_FIELDS, *extras] if item.name in planned.column_names]
    foreign = [name for name in table.column_names if name not in known]
    return [*differing(planned, table, [*of_rows, "planned_batch_size"]), *foreign]


def _picture_problems(table: pa.Table, image_format: str) -> Iterator[str]:
    """Decode every picture. Pixels of lossless formats must have the digest of the row, all must have its size."""
    for row in table.select(["image", "image_id", "image_height", "image_width", "pixel_sha256"]).to_pylist():
        image_id, (data, path) = row["image_id"], (row["image"]["bytes"], row["image"]["path"])
        try:
            pixels = images.decode(data)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on broken files
            yield f"image {image_id} cannot be decoded ({error})"
            continue
        if not images.is_in(data, image_format):
            yield f"image {image_id} is no {image_format}, as the job asked for"
        if path != f"{image_id}.{images.FORMATS[image_format].extension}":
            yield f"image {image_id} has the name of another file"
        if pixels.shape != (row["image_height"], row["image_width"], 3):
            yield f"image {image_id} is {pixels.shape[1]}x{pixels.shape[0]}, its row says otherwise"
        elif images.FORMATS[image_format].lossless and images.pixel_sha256(pixels) != row["pixel_sha256"]:
            yield f"image {image_id} has other pixels than were rendered"
