"""What layouts of loose files share: each picture a file, perhaps with its caption beside it.

A part is a folder, or some files of one. There is no receipt: a file that lies there is compared with what would be
written. Knows no layout by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from batchgen.export.layout import Place, Tally
from batchgen.export.part import Part
from batchgen.export.samples import Block
from batchgen.run.reading import ahead

AT_ONCE = 8  # files that are written at the same time: a disk syncs each, and an object store is far away
MOST = 9_999  # files of a folder: the Hub takes no more


def write_files(place: Place, part: Part, files: Iterator[tuple[str, bytes]]) -> Tally:
    """All files of a part: path and bytes."""
    tally = Tally(images=len(part.image_ids))

    def create(file: tuple[str, bytes]) -> int:
        return place.create(*file)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for made in ahead(pool, create, files, AT_ONCE):
            tally.count(made)
    return tally


def folder_of(part: Part) -> str:
    return f"{part.number:05}"


def pictures(blocks: Iterator[Block], folder: str, extension: str, captions: str | None) -> Iterator[tuple[str, bytes]]:
    """captions: the extension of their files; None: there are none."""
    for block in blocks:
        for sample in block.samples:
            yield f"{folder}/{sample.image_id}.{extension}", sample.data
            if captions is not None:
                yield f"{folder}/{sample.image_id}.{captions}", sample.caption.encode()
