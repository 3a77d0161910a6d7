"""What a benchmark is to batchgen: how its prompts are read, where its scorer looks for images, what the scorer says.

Data only. Knows no benchmark by name, no run and no Parquet. A benchmark's `place` says where files go, and its `find`
and `check` say what its scorer accepts; the two share no constants, so that one proves the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from batchgen.evaluate.prompt_file import PromptFile
from batchgen.storage.store import Store

ALL = "all"  # the category of benchmarks whose total is made of none


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a benchmark. answer: what counts as right. parents: ids of questions that must be right before."""

    id: str
    question: str
    answer: str = "yes"
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt of a benchmark. benchmark_id: as its scorer names it. category: of those that its total is made of.

    record: where it came from, a line byte for byte.
    """

    benchmark_id: str
    prompt: str
    record: str
    category: str = ALL
    questions: tuple[Question, ...] = ()

    def questions_json(self) -> str | None:
        """As the manifest keeps them; None where it has none."""
        return json.dumps([asdict(one) for one in self.questions], ensure_ascii=False) if self.questions else None


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of a run that shows a benchmark's prompt. sample: its number among those of the prompt, from 0.

    Where a benchmark takes one image of a prompt, each sample is placed by itself, and all are 0.
    """

    image_id: str
    sample: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Form:
    """How a scorer wants its pictures. columns, rows: several in a grid. webp: without loss."""

    format: Literal["png", "jpeg", "webp"] = "png"
    columns: int = 1
    rows: int = 1

    @property
    def tiles(self) -> int:
        return self.columns * self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file of the folder that a scorer reads: a picture of images, or text.

    path: in that folder. images: the image of each tile, row by row; None is a tile without a picture.
    """

    path: str
    images: tuple[str | None, ...] = ()
    form: Form = Form()
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Found:
    """An image that a scorer would find in a folder. tile: which of those that `grid` (columns, rows) cuts it into."""

    path: str
    benchmark_id: str
    sample: int
    grid: tuple[int, int] = (1, 1)
    tile: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What a scorer's output says of a picture. path: as it stands there. score: None where it has none.

    tile: None where it is of a whole file, whose images may be several. metric: where a scorer has several.
    prompt: that it judged against, where it says.
    """

    path: str
    score: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    tile: int | None = 0
    metric: str = ""
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """title, scorer, total: for people; total says how the benchmark's own is made of the images' scores.

    files: what its prompt files are. size: how many prompts it has, where there is one set of them. images, seed: of a
    prompt, where it says so.
    read: its files → prompts; raises WrongFile.
    place: images of one setting, and the name of their model → files.
    find: a folder, and the prompts → what its scorer takes for images of them.
    check: a folder, and the prompts that should be there → what is wrong.
    read_scores: a file of the scorer's output, and the paths of the export that it may be about → scores; raises
    WrongFile.
    low, high: ends of their scale.
    """

    name: str
    title: str
    scorer: str
    licence: str
    files: str
    size: int | None = None
    images: int | None = None
    seed: int | None = None
    read: Callable[[Sequence[PromptFile]], Sequence[Prompt]]
    place: Callable[[Sequence[Shown], str], Iterator[Place]]
    find: Callable[[Store, Sequence[Prompt]], Iterator[Found]]
    check: Callable[[Store, Sequence[Prompt]], Iterator[str]]
    read_scores: Callable[[PromptFile, Sequence[str]], Iterator[Judged]] | None = None
    low: float = 0.0
    high: float = 1.0
    total: str
