"""Brings images that were made elsewhere in as a run: with a plan, shards and books, like one that was rendered.

What opens, scores, compares and exports runs takes it; what renders refuses it, by a fact of its plan. Running it again
continues. Knows a run's files and no model.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import batchgen
from batchgen import schema
from batchgen.errors import Refused
from batchgen.evaluate import adoptable
from batchgen.evaluate.adoptable import ABSENT, FILE, TILE, Adoptable
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.exported import Record, Shows, write_record
from batchgen.evaluate.importing import read_manifest
from batchgen.evaluate.scores import NAME
from batchgen.finalize.metadata import Totals
from batchgen.finalize.proof import finalize
from batchgen.job import Model
from batchgen.look.results import Results
from batchgen.plan.files import PlanFiles
from batchgen.plan.sharding import PlannedShard
from batchgen.rows import identity
from batchgen.run import images
from batchgen.run.directory import Run, commit, refuse_foreign
from batchgen.run.facts import Facts
from batchgen.run.found_model import FoundModel
from batchgen.run.index import ShardRef
from batchgen.run.plans import Plan, digest
from batchgen.run.shard_file import EncodedPicture, Failure, Footer, build
from batchgen.storage.store import Store
from batchgen.words import redact

UNREADABLE = "UNREADABLE"
ROWS_PER_SHARD = 64  # of pictures of a megabyte or two: a shard is assembled in memory


@dataclass(frozen=True, slots=True)
class Adopted:
    """absent: images that the manifest asks for and the folder does not have. unreadable: why of each file that is no
    picture, as one that is empty. Both are failed rows of the run."""

    run: Run
    totals: Totals
    absent: int
    unreadable: tuple[str, ...]

    def lines(self, name: str) -> Iterator[str]:
        """For people."""
        yield f"{self.run.store}: {self.totals.images} images of {name}."
        if self.absent:
            yield f"note: {self.absent} that the table asks for are not there."
        if self.unreadable:
            yield f"note: {len(self.unreadable)} are there and are no pictures, such as {self.unreadable[0]}"


def adopt(
    folder: str, layout: str, name: str, out: str, manifest: str, known: Mapping[str, Any] | None = None
) -> Adopted:
    """Make a run of a folder that the scorer of a benchmark would read. name: of the model. known: its settings.

    manifest: as `batchgen import` wrote it. Raises Refused.
    """
    benchmark = benchmark_named(layout)
    if not NAME.fullmatch(name):
        raise Refused(f"--name {name}: use small letters, digits, '-', '_' and '.'.")
    source, store = Store.open(folder), Store.open(out)
    if f"{store.url}/".startswith(f"{source.url}/") or f"{source.url}/".startswith(f"{store.url}/"):
        raise Refused(f"{store}: and {source} lie in one another. Adopt into a folder of its own.")
    table = read_manifest(manifest, benchmark.name)
    found = adoptable.look(source, benchmark, table, known or {})
    facts = _facts(found, digest(repr(table.to_pylist()).encode()), name, known or {})
    run = _planned(store, found, facts, name, source)
    for plan in run.plans:
        committed = run.committed()
        for shard in run.shards(plan):
            if shard.number not in committed:
                _commit(run, plan, shard, source)
    shows = tuple(Shows(row[FILE], int((row[TILE] or "0").split(" ")[0]), row["image_id"]) for row in found.rows)
    write_record(
        run.store,
        Record(
            target=layout, dest=str(source), fingerprint=run.plans[-1].fingerprint, selection=None, roots=("",),
            files=len({one.path for one in shows}), shows=shows,
        ),
    )  # fmt: skip
    totals = finalize(run)
    rows = Results(run.store.url).to_pandas()
    unreadable = rows["error_message"][rows["error_code"] == UNREADABLE]
    return Adopted(run, totals, len(found.absent), tuple(unreadable))


def _facts(found: Adoptable, manifest: str, name: str, known: Mapping[str, Any]) -> Facts:
    return Facts(
        identity=identity.VERSION, manifest=manifest, columns={}, keep_columns=None, model=name, dtype="",
        batch_size="auto", refiner=None, deciding={}, image_format=found.image_format, image_quality=None, adapters={},
        loop={}, sampling=dict(known), sweep={}, adopted=found.digest,
    )  # fmt: skip


def _planned(store: Store, found: Adoptable, facts: Facts, name: str, source: Store) -> Run:
    """The run with its plan; the one that is there, where it is of the same images."""
    fingerprint = identity.fingerprint(facts.to_dict())
    run = Run.find(store)
    if run is None:
        store.refuse_unfit()
        refuse_foreign(store)
        store.probe()
        _publish(store, found, facts, fingerprint, name, source)
        run = Run.open(store)
    if not run.holds(fingerprint):
        raise Refused(f"{store}: holds another run. Adopt these images into another directory: {store}-2")
    return run


def _publish(store: Store, found: Adoptable, facts: Facts, fingerprint: str, name: str, source: Store) -> None:
    with PlanFiles(store, found.extras) as files:
        shards = list(_shards(found))
        for shard in shards:
            files.write(shard)
        absent = [row | {"skip_code": ABSENT, "skip_message": "the folder has no such image"} for row in found.absent]
        files.skip([pa.Table.from_pylist(absent, schema=schema.plan_schema(found.extras))] if absent else [])
        index, skipped = files.finish()
        files.publish(
            Plan(
                generation=0, plan=files.plan, fingerprint=fingerprint, facts=facts,
                stored=_stored(found, name, store, source),
                model=FoundModel(name, None, "unknown", dtype="unknown"), batchgen=batchgen.__version__,
                images=len(found.rows), skipped_images=len(absent), shards=len(shards), files=files.files,
                index=index, skipped=skipped,
            )
        )  # fmt: skip


def _shards(found: Adoptable) -> Iterator[PlannedShard]:
    target = schema.plan_schema(found.extras)
    for number, start in enumerate(range(0, len(found.rows), ROWS_PER_SHARD)):
        rows = [row | {"shard": number, "batch_size": 1} for row in found.rows[start : start + ROWS_PER_SHARD]]
        yield PlannedShard(number, pa.Table.from_pylist(rows, schema=target), 1, "adopted", 0.0)


def _stored(found: Adoptable, name: str, store: Store, source: Store) -> dict[str, Any]:
    """In the place of a job: what readers of a run look up there. Nothing is known of how the images were made."""
    model = Model.model_construct(pretrained_model_name_or_path=name).model_dump(mode="json", warnings=False)
    return {
        "input": {"path": redact(str(source)), "columns": {}, "keep_columns": None},
        "model": model | {"preset": None, "dtype": "unknown"},
        "sampling": {},
        "sweep": {},
        "refine": None,
        "output": {"path": str(store), "image_format": found.image_format, "image_quality": None},
    }


def _commit(run: Run, plan: Plan, shard: ShardRef, source: Store) -> None:
    """Store the pictures of a shard, as they are where that is possible; one that cannot be read is a failure."""
    rows = run.rows(plan, shard)
    image_format = plan.stored["output"]["image_format"]
    pictures, failures = list[EncodedPicture | None](), dict[str, Failure]()
    for row in rows.select(["image_id", FILE, TILE]).to_pylist():
        try:
            data, pixels = adoptable.picture_of(source.read(row[FILE]), row[TILE], image_format)
            pictures.append(_encoded(row["image_id"], data, pixels, image_format))
        except (ValueError, FileNotFoundError) as error:
            pictures.append(None)
            failures[row["image_id"]] = Failure(UNREADABLE, f"{row[FILE]}: {error}")
    footer = Footer(
        shard=shard.number, plan=plan.plan, attempt_id=uuid.uuid4().hex, attempt=1, finished_at=time.time(),
        images=len(rows) - len(failures), failures=failures,
        constants=plan.constants()
        | {"device": "elsewhere", "versions": {"batchgen": batchgen.__version__}, "sigmas": None},
    )  # fmt: skip
    commit(run.store, build(rows, pictures, footer), footer)


def _encoded(image_id: str, data: bytes, pixels: images.Pixels, image_format: str) -> EncodedPicture:
    height, width = np.shape(pixels)[:2]
    values = {
        "batch_size": 1, "planned_batch_size": 1, "image_height": height, "image_width": width,
        "suspect": images.suspect(pixels), "pixel_sha256": images.pixel_sha256(pixels), "phash": images.phash(pixels),
        "render_seconds": None, "attempt": 1,
    }  # fmt: skip
    return EncodedPicture(data, f"{image_id}.{images.FORMATS[image_format].extension}", values)
