"""T2I-CompBench++: eight files of 300 prompts, ten images each, their prompt in the name of the file.

The scorers take a folder for each category and sort samples/ by the number at the end of a name. Facts of their code:
github.com/Karine-Huang/T2I-CompBench, commit 1b70949 (MIT; its UniDet parts are Nvidia's, non-commercial). Knows no
run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile
from batchgen.storage.store import Store

CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
IMAGES = 10
LONGEST_NAME = 255  # bytes of a file's name, on Linux and in what unpacks archives


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    prompts = []
    for file in files:
        category = file.stem.removesuffix("_val")
        if category not in CATEGORIES or not file.stem.endswith("_val"):
            names = ", ".join(f"{name}_val.txt" for name in CATEGORIES)
            raise WrongFile(f"{file.name} is none of {names}")
        lines = [line.strip() for line in file.text().splitlines() if line.strip()]
        for number, line in enumerate(lines):
            if "_" in line or "/" in line or len(_name(line, 0).encode()) > LONGEST_NAME:
                raise WrongFile(f"{file.name}, line {number + 1} cannot be the name of a file: {line!r}")
            prompts.append(Prompt(benchmark_id=f"{category}-{number:03}", prompt=line, record=line, category=category))
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        if shown.sample < IMAGES:
            index = int(shown.prompt.benchmark_id.rpartition("-")[2]) * IMAGES + shown.sample
            path = f"{shown.prompt.category}/samples/{_name(shown.prompt.prompt, index)}"
            yield Place(path=path, images=(shown.image_id,))


def _name(prompt: str, index: int) -> str:
    return f"{prompt}_{index:06}.png"


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    wanted = {(prompt.category, prompt.prompt): prompt for prompt in prompts}
    counts: dict[str, int] = {}
    for path in _sorted([entry.path for entry in store.list()]):
        category, _, name = path.split("/")
        prompt = wanted.get((category, name.split("_")[0]))
        if prompt:
            sample = counts[prompt.benchmark_id] = counts.get(prompt.benchmark_id, -1) + 1
            yield Found(path, prompt.benchmark_id, sample)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    texts: dict[str, set[str]] = {}
    for prompt in prompts:
        texts.setdefault(prompt.category, set()).add(prompt.prompt)
    images: dict[tuple[str, str], int] = {}
    numbers = set[tuple[str, int]]()
    for entry in store.list():
        category, _, rest = entry.path.partition("/")
        if category not in texts or not rest.startswith("samples/"):
            yield f"{entry.path}: no scorer reads it; images lie in <category>/samples/"
            continue
        name = rest.removeprefix("samples/")
        number = re.match(r"\s*\d+\s*$", name.split("_")[-1].split(".")[0])
        if number is None:
            yield f"{entry.path}: the scorer ends there, as its name has no number after the last '_'"
            continue
        if (category, int(number[0])) in numbers:
            yield f"{entry.path}: another image of {category} has this number, and their order is left to chance"
        numbers.add((category, int(number[0])))
        text = name.split("_")[0]
        if text not in texts[category]:
            yield f"{entry.path}: would be asked about {text!r}, which is no prompt of {category}"
        images[category, text] = images.get((category, text), 0) + 1
    yield from _missing(texts, images)


def _missing(texts: Mapping[str, set[str]], images: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for category, there in texts.items():
        for text in sorted(there):
            if (count := images.get((category, text), 0)) != 10:
                yield f"{category}: {text!r} has {count} images; the 3-in-1 score takes ten a prompt as given"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """vqa_result.json: a number for each image of a category, counted in the order of their numbers."""
    rows = file.json()
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "answer" in row for row in rows):
        raise WrongFile("it is no list of objects with question_id and answer")
    categories: dict[str, list[str]] = {}
    for path in _sorted(paths):
        categories.setdefault(path.split("/")[0], []).append(path)
    fitting = [images for images in categories.values() if len(images) == len(rows)]
    if len(fitting) != 1:
        counts = ", ".join(f"{len(images)} of {category}" for category, images in categories.items())
        raise WrongFile(
            f"it has {len(rows)} scores and does not say of which category; the export has {counts}. Name "
            "the folder that was scored: --of FOLDER"
        )
    for row in rows:
        number = int(row.get("question_id", -1))
        if not 0 <= number < len(rows):
            raise WrongFile(f"there is no image with the number {number}")
        yield Judged(fitting[0][number], float(row["answer"]))


def _sorted(paths: Sequence[str]) -> list[str]:
    """Images in the order in which a scorer counts them: by the number at the end of a name."""
    numbered = [path for path in paths if re.fullmatch(r"[^/]+/samples/[^/]*_\d+\.[^/]+", path)]
    return sorted(numbered, key=lambda path: (path.split("/")[0], int(path.split("_")[-1].split(".")[0])))


T2I_COMPBENCH = Benchmark(
    name="t2i-compbench",
    title="T2I-CompBench++",
    scorer="Karine-Huang/T2I-CompBench@1b70949",
    licence="MIT",
    files="one or more of color_val.txt, shape_val.txt, texture_val.txt, spatial_val.txt, 3d_spatial_val.txt, "
    "numeracy_val.txt, non_spatial_val.txt and complex_val.txt, one prompt a line",
    images=IMAGES,
    seed=42,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="each category has its own: the mean over images",
)
