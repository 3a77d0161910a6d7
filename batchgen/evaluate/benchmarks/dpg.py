"""DPG-Bench: 1065 dense prompts with questions that depend on one another, in dpg_bench.csv; four images in a grid.

The scorer takes each file of one flat folder, names the prompt by the file's name up to the first dot, and cuts four
tiles of --resolution. Facts of its code: TencentQQGYLab/ELLA, commit 3c228f1, dpg_bench/compute_dpg_bench.py
(Apache-2.0). Knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from PIL import Image

from batchgen.evaluate.benchmark import Benchmark, Form, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.benchmarks.dependent_questions import one_table, read_table
from batchgen.evaluate.prompt_file import PromptFile, WrongFile
from batchgen.storage.store import Store

GRID = Form("png", columns=2, rows=2)


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    """prompts/*.txt beside the table say the same prompts; where they are given, they are what counts."""
    texts = {file.stem: file.text() for file in files if file.name.endswith(".txt")}
    return list(read_table(one_table(files), texts or None))


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    """A grid for each prompt of which all four are there: an absent tile would be scored as a black image."""
    items: dict[str, dict[int, str]] = {}
    for shown in images:
        items.setdefault(shown.prompt.benchmark_id, {})[shown.sample] = shown.image_id
    for item, samples in items.items():
        if all(sample in samples for sample in range(GRID.tiles)):
            yield Place(path=f"{item}.png", images=tuple(samples[sample] for sample in range(GRID.tiles)), form=GRID)


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    wanted = {prompt.benchmark_id for prompt in prompts}
    for entry in store.list(recursive=False):
        key = entry.path.split(".")[0]
        if key in wanted:
            yield from (Found(entry.path, key, tile, (2, 2), tile) for tile in range(4))


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    keys: dict[str, str] = {}
    sizes: dict[tuple[int, int], list[str]] = {}
    wanted = {prompt.benchmark_id: prompt for prompt in prompts}
    for entry in store.list():
        path, key = entry.path, PurePosixPath(entry.path).name.split(".")[0]
        if "/" in path:
            yield f"{path}: the scorer reads no folders below the one it is given"
        elif key.startswith("dpg-bench_"):
            yield f"{path}: is a result of the scorer, which would take it for an image: start it with --res-path"
        elif key not in wanted:
            yield f"{path}: no prompt is called {key!r} (a name up to its first dot), so the scorer drops it"
        elif (size := _size(store, path)) is None:
            yield f"{path}: is no picture, so the scorer drops it and counts without it"
        else:
            if key in keys:
                yield f"{path}: is the second image of prompt {key}, beside {keys[key]}"
            keys[key] = path
            sizes.setdefault(size, []).append(path)
    yield from _size_problems(sizes)
    for key in wanted.keys() - keys.keys():
        yield f"prompt {key} has no image, and the scorer would not notice"


def _size_problems(sizes: dict[tuple[int, int], list[str]]) -> Iterator[str]:
    """The scorer is told one resolution of a tile, and pads with black what a grid lacks."""
    usual = max(sizes, key=lambda size: len(sizes[size]), default=None)
    for (width, height), paths in sizes.items():
        shown = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
        if width != height or width % 2:
            yield f"{width} × {height} ({shown}): is no grid of 2 × 2 square tiles"
        elif (width, height) != usual:
            yield f"{width} × {height} ({shown}): others are {usual and usual[0]}, and --resolution is one for all"


def _size(store: Store, path: str) -> tuple[int, int] | None:
    try:
        with store.open_file(path) as file, Image.open(file) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError):
        return None


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """Lines 'path, score of each tile, their mean', and a summary after them."""
    found = False
    for line in file.text().splitlines():
        path, *values = line.split(", ")
        try:
            scores = [float(value) for value in values]
        except ValueError:
            continue
        if len(scores) >= 2:
            found = True
            for tile, score in enumerate(scores[:-1]):
                yield Judged(path, score, tile=tile)
    if not found:
        raise WrongFile("it has no line of a path, the scores of its tiles and their mean")


DPG = Benchmark(
    name="dpg",
    title="DPG-Bench",
    scorer="TencentQQGYLab/ELLA@3c228f1",
    licence="Apache-2.0",
    files="dpg_bench.csv with item_id, text, proposition_id, dependency and question_natural_language; prompts/*.txt "
    "may be given too",
    size=1065,
    images=4,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="the mean over prompts of the mean over their images, × 100",
)
