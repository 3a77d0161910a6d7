"""The target `evalscope`: pictures beside a file of lines with id, prompt and image_path, as evalscope's own data.

Source: modelscope/evalscope 1.14.1, the local file of its text-to-image evaluations. Knows no benchmark: an image is
judged by the benchmark's prompt where it shows one, else by its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from batchgen.evaluate.asked import asked
from batchgen.export.target import File, Row


@dataclass(frozen=True, slots=True)
class Evalscope:
    name: str = "evalscope"
    wants: str = "It takes any images."

    def roots(self, rows: Sequence[Row]) -> Sequence[str]:
        return [""]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        return []

    def files(self, rows: Sequence[Row]) -> Iterator[File]:
        lines = []
        for row in rows:
            path = f"images/{row.image_id}{PurePosixPath(row.file_name).suffix}"
            line = {"id": row.image_id, "prompt": asked(row.values), "image_path": path}
            lines.append(json.dumps(line, ensure_ascii=False))
            yield File(path, (row.image_id,), row.picture)
        text = "".join(f"{line}\n" for line in lines).encode()
        yield File("prompts.jsonl", (), lambda: text)
