"""OneIG-Bench: prompts of six categories, in OneIG-Bench.csv and OneIG-Bench-ZH.csv; up to four images in a WebP grid.

Its repository has no licence, so none of its prompts stand here. The scorers tell a tile that is absent by its pixels,
all (0, 0, 0), which only WebP without loss keeps. Facts of their code: OneIG-Bench/OneIG-Benchmark, commit 41b4983.
Knows no run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from PIL import Image

from batchgen.evaluate.benchmark import Benchmark, Form, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.benchmarks.names import models_in
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of
from batchgen.storage.store import Store

# A word of a category's name in the table → the folder of its images.
FOLDERS = {
    "anime": "anime",
    "portrait": "human",
    "human": "human",
    "object": "object",
    "text": "text",
    "reasoning": "reasoning",
    "multilingual": "multilingualism",
}


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    prompts = []
    for file in files:
        for row in file.rows(("category", "id")):
            text = row.get("prompt_en") or row.get("prompt_cn") or ""
            folder = next((name for word, name in FOLDERS.items() if word in row["category"].lower()), None)
            if folder is None or not row["id"].isdigit() or not text.strip():
                raise WrongFile(f"{file.name} has a row without a known category, a number and a prompt: {row}")
            number = f"{int(row['id']):03}"
            prompts.append(
                Prompt(benchmark_id=f"{folder}_{number}", prompt=text, record=record_of(row), category=folder)
            )
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    """One form for all, as the scorers are told one grid: of one image, or two by two with black where one lacks."""
    side = 1 if all(shown.sample == 0 for shown in images) else 2
    grids: dict[str, dict[int, str]] = {}
    for shown in images:
        if shown.sample < side * side:
            grids.setdefault(shown.prompt.benchmark_id, {})[shown.sample] = shown.image_id
    for name, samples in grids.items():
        folder, _, number = name.partition("_")
        tiles = tuple(samples.get(sample) for sample in range(side * side))
        yield Place(path=f"{folder}/{model}/{number}.webp", images=tiles, form=Form("webp", side, side))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    """Of a folder of grids of two by two, as the benchmark asks for."""
    for paths, prompt in _hits(store, prompts):
        if len(paths) == 1:
            yield from (Found(paths[0], prompt.benchmark_id, tile, (2, 2), tile) for tile in range(4))


def _hits(store: Store, prompts: Sequence[Prompt]) -> Iterator[tuple[list[str], Prompt]]:
    """What <root>/<category>/<model>/<id>* matches, for each model and prompt."""
    folders: dict[str, list[str]] = {}
    for entry in store.list():
        if entry.path.count("/") == 2:
            folders.setdefault(entry.path.rpartition("/")[0], []).append(entry.path)
    for model in models_in([path for paths in folders.values() for path in paths], 1):
        for prompt in prompts:
            category, _, number = prompt.benchmark_id.partition("_")
            folder = f"{category}/{model}"
            yield [path for path in folders.get(folder, []) if path.startswith(f"{folder}/{number}")], prompt


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    used = set[str]()
    for paths, prompt in _hits(store, prompts):
        used.update(paths)
        if not paths:
            yield f"{prompt.benchmark_id}: has no image; alignment and text drop it from their mean"
        elif len(paths) > 1:
            names = ", ".join(paths)
            yield f"{prompt.benchmark_id}: has {len(paths)} files ({names}), and alignment and text take none of them"
        for path in paths:
            yield from _picture_problems(store, path)
    if not used:
        yield "there are no images in <category>/<model>/<number>*"
    for entry in store.list():
        if entry.path not in used:
            yield f"{entry.path}: is of no prompt; style, reasoning and diversity would take it all the same"


def _picture_problems(store: Store, path: str) -> Iterator[str]:
    data = store.read(path)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            image_format, mode, (width, height) = picture.format, picture.mode, picture.size
    except (OSError, SyntaxError, ValueError) as error:
        yield f"{path}: is no picture ({error})"
        return
    if width != height:
        yield f"{path}: is {width} × {height}; the grid is cut as a square"
    if mode != "RGB":
        yield f"{path}: is {mode}; a tile is absent only where it is RGB and black"
    if image_format == "WEBP" and b"VP8L" not in data[12:64]:
        yield f"{path}: is WebP with loss, in which an absent tile is not black any more"
    if image_format not in ("WEBP", "PNG"):
        yield f"{path}: is {image_format}; a format with loss does not keep absent tiles black"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """<metric>_prompt_score_*.csv: a row for each prompt, a column for each model, in the first the prompt's name."""
    rows = list(csv.reader(io.StringIO(file.text(), newline="")))
    if "prompt_score" not in file.name or not rows or len(rows[0]) < 2:
        raise WrongFile(f"{file.name} is no <metric>_prompt_score_<mode>_<time>.csv")
    metric = file.name.partition("_prompt_score")[0]
    for name, *values in rows[1:]:
        for model, value in zip(rows[0][1:], values, strict=False):
            folder, _, number = name.rpartition("_")
            yield Judged(_path(folder, model, number, paths), float(value) if value else None, {}, None, metric)


def _path(folder: str, model: str, number: str, paths: Sequence[str]) -> str:
    """Text, reasoning and diversity leave out the category where there is one only."""
    end = f"/{model}/{int(number):03}.webp" if number.isdigit() else f"/{model}/{number}.webp"
    fitting = [path for path in paths if path.endswith(end) and path.startswith(folder)]
    return fitting[0] if len(fitting) == 1 else f"{folder}{end}"


ONEIG = Benchmark(
    name="oneig",
    title="OneIG-Bench",
    scorer="OneIG-Bench/OneIG-Benchmark@41b4983",
    licence="none",
    files="OneIG-Bench.csv or OneIG-Bench-ZH.csv, with category, id and prompt_en or prompt_cn",
    images=4,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="none; five metrics, each a mean over prompts, and papers average them",
)
