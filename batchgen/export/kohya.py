"""The layout of kohya-ss/sd-scripts: one folder `<repeats>_<name>` of pictures and captions, and `dataset.toml`.

Pictures stand directly in that folder, and a caption is one line. Source: docs/config_README-en.md there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchgen.export.layout import Place, Tally
from batchgen.export.loose_files import write_files
from batchgen.export.part import Part
from batchgen.export.samples import Block

SETTINGS = "dataset.toml"
STEPS = (64, 32, 16, 8)  # of sizes: the largest one that divides all sides
CAPTIONS = "txt"


@dataclass(frozen=True, slots=True)
class Kohya:
    """folder: <repeats>_<name>. part_size: of what is written before more is read; it decides no file."""

    extension: str
    folder: str
    repeats: int
    name: str = "kohya"
    part_size: int = 1_000
    is_sharded: bool = False
    beside: Sequence[str] = (SETTINGS,)

    def paths(self, part: Part) -> Iterator[str]:
        for image_id in part.image_ids:
            yield from (f"{self.folder}/{image_id}.{kind}" for kind in (self.extension, CAPTIONS))

    def is_written(self, place: Place, part: Part) -> bool:
        return False

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        return write_files(place, part, self._files(blocks))

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        sizes = {
            (sample.own["image_width"], sample.own["image_height"]) for _, block in blocks for sample in block.samples
        }
        tally = Tally()
        tally.count(place.create(SETTINGS, self._settings(sorted(sizes)).encode()))
        return tally

    def _files(self, blocks: Iterator[Block]) -> Iterator[tuple[str, bytes]]:
        for block in blocks:
            for sample in block.samples:
                yield f"{self.folder}/{sample.image_id}.{self.extension}", sample.data
                line = " ".join(sample.caption.split("\n")).strip()
                yield f"{self.folder}/{sample.image_id}.{CAPTIONS}", line.encode()

    def _settings(self, sizes: Sequence[tuple[int, int]]) -> str:
        """sizes: (width, height). A resolution is what a size may have of pixels in all; buckets keep the shapes."""
        sides = [side for size in sizes for side in size]
        steps = next((step for step in STEPS if all(side % step == 0 for side in sides)), 1)
        width, height = max(sizes, key=lambda size: size[0] * size[1])
        return f"""[general]
caption_extension = ".{CAPTIONS}"
enable_bucket = true
min_bucket_reso = {min(sides)}
max_bucket_reso = {max(sides)}
bucket_reso_steps = {steps}

[[datasets]]
resolution = [{width}, {height}]

  [[datasets.subsets]]
  image_dir = {json.dumps(self.folder)}
  num_repeats = {self.repeats}
"""
