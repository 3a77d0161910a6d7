"""The Ray Data graph of planning: pieces of the manifest → image rows in order → shards → the files of a plan.

What one piece could hold is read in this process, without Ray, so that a typo answers in a second. Knows no torch and
no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

import batchgen
from batchgen.errors import Refused
from batchgen.manifest.formats import Source
from batchgen.plan.extension import Extension
from batchgen.plan.files import PlanFiles
from batchgen.plan.preflight import Prepared
from batchgen.plan.preview import Sample
from batchgen.plan.sharding import Sharder, Summary
from batchgen.rows.expand import expand_or_complain
from batchgen.rows.expansion import Expansion
from batchgen.rows.tokens import TokenCounter
from batchgen.run.directory import Run
from batchgen.run.plans import Plan
from batchgen.words import redact

PIECE, ROWS = "batchgen:piece", "batchgen:rows"  # columns on the way through Ray
PACK_BYTES = 128 * 2**20  # of image rows that a driver unpacks at once


def survey(prepared: Prepared) -> Summary:
    """What a plan would hold. Writes nothing. Raises Refused with every problem of the manifest."""
    extension = _extension(prepared)
    sharder = sharder_for(prepared, extension)
    for number, table in expanded(prepared):
        for _ in sharder.add(number, table):
            pass
        sharder.take_skipped()
    for _ in sharder.finish():
        pass
    _check(sharder.summary, extension)
    return sharder.summary


def make_plan(prepared: Prepared, limit: int | None = None) -> tuple[Run, Summary]:
    """Write the plan of a new run, or of an extension, and publish it. Returns the run with it.

    limit: plan only a sample of so many image rows. Raises Refused, with nothing left behind, for a bad manifest;
    RunMismatch for an extension that is none.
    """
    prepared.store.probe()
    extension = _extension(prepared)
    whole = sharder_for(prepared, extension)
    sharder = whole if limit is None else Sample(whole, limit)
    with PlanFiles(prepared.store, prepared.expansion.passed) as files:
        for number, table in expanded(prepared):
            for shard in sharder.add(number, table):
                files.write(shard)
            files.skip(sharder.take_skipped())
        for shard in sharder.finish():
            files.write(shard)
        _check(sharder.summary, extension)
        files.replace(extension.replaces if extension else [])
        ours = files.publish(_plan(prepared, sharder, files))
    run = Run.open(prepared.store)
    if not ours and prepared.extend and not run.holds(prepared.fingerprint):
        run.check(prepared.facts, prepared.fingerprint, extend=True)
        return make_plan(replace(prepared, run=run), limit)  # another command planned first: extend what it planned
    run.check(prepared.facts, prepared.fingerprint)
    return run, sharder.summary


def _extension(prepared: Prepared) -> Extension | None:
    return Extension(prepared.run, prepared.expansion.passed) if prepared.run and prepared.extends else None


def sharder_for(prepared: Prepared, extension: Extension | None) -> Sharder:
    first = prepared.run.next_shard if prepared.run and extension else 0
    return Sharder(prepared.job, prepared.expansion, prepared.sources, extension, first)


def _check(summary: Summary, extension: Extension | None) -> None:
    if summary.problems:
        raise Refused(summary.problems, summary.problem_codes)
    if extension:
        extension.check()


def _plan(prepared: Prepared, sharder: Sharder | Sample, files: PlanFiles) -> Plan:
    index, skipped = files.finish()
    summary = sharder.summary
    stored = prepared.job.model_dump(mode="json")
    stored["input"]["path"] = redact(str(stored["input"]["path"]))
    stored["cluster"]["address"] = stored["cluster"]["address"] and redact(stored["cluster"]["address"])
    return Plan(
        generation=len(prepared.run.plans) if prepared.run else 0,
        kind="extension" if prepared.run else "first",
        plan=files.plan,
        fingerprint=prepared.fingerprint,
        facts=prepared.facts,
        stored=stored,
        model=prepared.model,
        batchgen=batchgen.__version__,
        images=summary.images,
        skipped_images=summary.skipped_images,
        shards=sum(bucket.shards for bucket in summary.buckets.values()),
        files=files.files,
        index=index,
        skipped=skipped,
        replaced=files.replaced,
    )


def expanded(prepared: Prepared) -> Iterator[tuple[int, pa.Table]]:
    """(number of the source, image rows of it), in manifest order; a source may come in several tables."""
    pieces = prepared.sources.items
    tokenizers = str(prepared.model.tokenizers)
    if not prepared.plans_on_ray:
        for number, piece in enumerate(pieces):
            for table in expand_or_complain(piece, prepared.expansion, _counter(tokenizers)):
                yield number, table
        return
    yield from expanded_on_ray(prepared, tokenizers)


def expanded_on_ray(prepared: Prepared, tokenizers: str) -> Iterator[tuple[int, pa.Table]]:
    import ray.data  # seconds to import: only where there is more than one piece
    from ray.exceptions import RayError

    from batchgen.cluster.connection import connected, explain

    with connected(prepared.job.cluster):
        options = ray.data.DataContext.get_current().execution_options
        options.preserve_order = True
        try:
            pieces = [{PIECE: number} for number in range(len(prepared.sources.items))]
            arguments = {"pieces": prepared.sources.items, "expansion": prepared.expansion, "tokenizers": tokenizers}
            dataset = (
                ray.data.from_items(pieces, override_num_blocks=1)
                .repartition(target_num_rows_per_block=1, strict=True)
                .map_batches(read_and_expand, fn_kwargs=arguments, batch_size=1, batch_format="pyarrow")
            )
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                yield from unpacked(table)
        except RayError as error:
            raise explain(error) from None
        finally:
            options.preserve_order = False


def read_and_expand(
    batch: pa.Table, *, pieces: Sequence[Source], expansion: Expansion, tokenizers: str
) -> Iterator[pa.Table]:
    """Numbers of pieces → their image rows, in a Ray task.

    Packed, because all that a driver has ever read of Ray's shared memory counts as its own.
    """
    for number in batch[PIECE].to_pylist():
        waiting = list[pa.Table]()
        for table in expand_or_complain(pieces[number], expansion, _counter(tokenizers)):
            waiting.append(table)
            if sum(one.nbytes for one in waiting) > PACK_BYTES:
                yield _packed(number, waiting)
                waiting = []
        if waiting:
            yield _packed(number, waiting)


def _packed(piece: int, tables: list[pa.Table]) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for table in tables:
            writer.write_table(table)
    return pa.table({PIECE: [piece], ROWS: pa.array([bytes(sink.getvalue())], pa.large_binary())})


def unpacked(packed: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Number of the piece and its image rows, of what read_and_expand() made."""
    for piece, rows in zip(packed[PIECE].to_pylist(), packed[ROWS], strict=True):
        yield piece, pa.ipc.open_stream(rows.as_buffer()).read_all()


@lru_cache(maxsize=1)
def _counter(tokenizers: str) -> TokenCounter:
    return TokenCounter.load(Path(tokenizers))
