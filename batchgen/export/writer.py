"""Writes an export: all files of a target into one folder, each once, and the map file → image_id below the run.

Running it again continues. What lies in the folder already must be, byte for byte, what would be written; the folder
holds nothing else. Knows no target.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.exported import Record, Shows, write_record
from batchgen.export.pictures import Pictures
from batchgen.export.target import File, Row, Target
from batchgen.look.results import Results
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.storage.store import Store

AT_ONCE = 8  # files that are written at the same time: a disk syncs each, and an object store is far away
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """written, there: files of this command, and of earlier ones. images: in how many images they show.

    failed: image_id → why there is no picture. missing: planned images that are not rendered yet. left_out: images that
    the target has no place for. notes: of the target. record: its path below the run.
    """

    dest: str
    roots: tuple[str, ...]
    written: int
    there: int
    images: int
    failed: dict[str, str]
    missing: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    record: str

    def lines(self) -> Iterator[str]:
        """For people."""
        there = f", {self.there} were there" if self.there else ""
        yield f"{self.dest}: {self.written} files written{there}, of {self.images} images."
        if self.failed:
            image_id, why = next(iter(self.failed.items()))
            yield f"note: {len(self.failed)} images failed and are left out, such as {image_id}: {why}"
        if self.missing:
            yield f"note: {self.missing} images are not rendered yet: run the render command, then this one again."
        if self.left_out:
            yield f"note: {len(self.left_out)} images have no place there, such as {self.left_out[0]}."
        yield from (f"note: {note}." for note in self.notes)
        roots = [root for root in self.roots if root]
        if roots:
            yield f"What a scorer is pointed at: {', '.join(f'{self.dest}/{root}' for root in roots)}"


def export(run: Run, dest: str, target: Target, selection: set[str] | None = None) -> Exported:
    """Write what a target makes of a run's images, or of some of them.

    Raises Refused where dest holds other files, lies in the run, or there is nothing to write.
    """
    store = Store.open(dest)
    refuse_place(run, store)
    rows, failed = rows_of(run, selection)
    if not rows:
        raise Refused(f"{run.store}: has no images to export. {len(failed)} failed or are not rendered.")
    files = list(target.files(rows))
    if not files:
        raise Refused(f"{run.store}: no file of {target.name} can be made of these {len(rows)} images. {target.wants}")
    _refuse_doubled(files)
    there = {entry.path: entry.size for entry in store.list()}
    refuse_foreign(store, there.keys() - {file.path for file in files})
    missing = [file for file in files if file.path not in there]
    _refuse_changed(store, [file for file in files if file.path in there])
    record = _record(run, store, target, rows, files, selection)
    path = write_record(run.store, record)  # before the files: one that is killed has said already what they show
    written = _write(store, missing)
    store.remove_temporary()
    shown = {one.image_id for one in record.shows}
    return Exported(
        dest=str(store),
        roots=record.roots,
        written=written,
        there=len(files) - written,
        images=len(shown),
        failed=failed,
        missing=0 if selection is not None else run.planned - len(rows) - len(failed),
        left_out=tuple(row.image_id for row in rows if row.image_id not in shown),
        notes=tuple(target.notes(rows)),
        record=path,
    )


def rows_of(run: Run, selection: set[str] | None = None) -> tuple[list[Row], dict[str, str]]:
    """The images of a run in order of their files, and image_id → why of those that have none.

    Raises Refused where images of the selection are not in the run.
    """
    frame = Results(run.store.url).to_pandas()
    if selection is not None:
        if unknown := sorted(selection - set(frame["image_id"])):
            raise Refused(f"{run.store}: has no image {', '.join(unknown[:SHOWN])} of the selection ({len(unknown)}).")
        frame = frame[frame["image_id"].isin(selection)]
    pictures = Pictures(run)
    rows, failed = list[Row](), dict[str, str]()
    for values in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        if values["status"] == "ok":
            rows.append(_row(run, pictures, {str(name): value for name, value in values.items()}))
        else:
            failed[values["image_id"]] = f"{values['error_code']}: {values['error_message']}"
    return rows, failed


def _row(run: Run, pictures: Pictures, values: dict[str, Any]) -> Row:
    image_format = images.FORMATS[run.plans[0].stored["output"]["image_format"]]
    name = f"{values['image_id']}.{image_format.extension}"
    return Row(values, name, partial(pictures.read, values["file"], values["image_id"]))


def refuse_place(run: Run, store: Store) -> None:
    """Raises Refused where an export cannot lie."""
    inside, outside = f"{store.url}/", f"{run.store.url}/"
    if inside.startswith(outside) or outside.startswith(inside):
        raise Refused(f"{store}: and the run {run.store} lie in one another. Export to a folder of its own.")
    store.refuse_unfit()


def _refuse_doubled(files: Sequence[File]) -> None:
    doubled = [path for path, count in Counter(file.path for file in files).items() if count > 1]
    if doubled:
        raise Refused(
            f"{len(doubled)} files would show several images, such as {doubled[0]}. The run has a prompt of the "
            "benchmark in several rows; export a selection that has each once."
        )


def refuse_foreign(store: Store, foreign: Collection[str]) -> None:
    """foreign: what lies there and is none of the export's."""
    if foreign:
        shown = ", ".join(sorted(foreign)[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
        raise Refused(
            f"{store}: holds {len(foreign)} files that this export does not make ({shown}), and whoever reads the "
            "folder would find them. Export to a new folder, or delete them."
        )


def _record(
    run: Run, store: Store, target: Target, rows: Sequence[Row], files: Sequence[File], selection: set[str] | None
) -> Record:
    shows = [
        Shows(file.path, tile, image_id)
        for file in files
        for tile, image_id in enumerate(file.images)
        if image_id is not None
    ]
    chosen = None if selection is None else hashlib.sha256("\n".join(sorted(selection)).encode()).hexdigest()
    return Record(
        target=target.name,
        dest=str(store),
        fingerprint=run.plans[-1].fingerprint,
        selection=chosen,
        roots=tuple(target.roots(rows)),
        files=len(files),
        shows=tuple(shows),
    )


def _refuse_changed(store: Store, files: Sequence[File]) -> None:
    """files: those that lie there already."""
    for file, same in _each(files, lambda path, data: _is_same(store, path, data)):
        if not same:
            raise Refused(f"{store}/{file.path}: is there and is another file. Delete it, or export to a new folder.")


def _write(store: Store, files: Sequence[File]) -> int:
    """How many were written; another command may have been faster, with the same."""
    done = list(_each(files, store.create))
    there = [file for file, made in done if not made]
    _refuse_changed(store, there)
    return len(done) - len(there)


def _each(files: Sequence[File], act: Callable[[str, bytes], bool]) -> Iterator[tuple[File, bool]]:
    """Pictures are read in turn, and several are at work at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            made = [file.data() for file in some]
            yield from zip(some, pool.map(act, [file.path for file in some], made), strict=True)


def _is_same(store: Store, path: str, data: bytes) -> bool:
    return hashlib.sha256(store.read(path)).digest() == hashlib.sha256(data).digest()
