"""WISE: 1000 prompts that need knowledge, one image each, called by its number. Two benchmarks, which do not compare.

WISE_Verified (the default since April 2026: other prompts, other boundaries of its categories, one 0/1 score) is
`wise`; the version before it is `wise-legacy`. Its repository has no licence, so none of its prompts stand here. Facts
of its code: github.com/PKU-YuanGroup/WISE, commit eb51174. Knows no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.benchmarks.names import compared
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of, text_of
from batchgen.storage.store import Store

# The last prompt_id of each category.
VERIFIED = {"culture": 400, "time": 520, "space": 640, "biology": 760, "physics": 880, "chemistry": 1000}
LEGACY = {"culture": 400, "time": 567, "space": 700, "biology": 800, "physics": 900, "chemistry": 1000}


def read(last: Mapping[str, int], files: Sequence[PromptFile]) -> list[Prompt]:
    prompts = []
    for file in files:
        rows = file.json()
        if not isinstance(rows, list):
            raise WrongFile(f"{file.name} is no JSON list of prompts")
        for row in rows:
            if not isinstance(row, dict) or not isinstance(row.get("prompt_id"), int):
                raise WrongFile(f"{file.name} has a prompt without a prompt_id")
            number = row["prompt_id"]
            category = next((name for name, end in last.items() if number <= end), None)
            if category is None:
                raise WrongFile(f"{file.name} has a prompt_id {number}")
            _refuse_other_version(file, row, category)
            prompt = text_of(row, "Prompt", f"{file.name}, prompt {number}")
            prompts.append(Prompt(benchmark_id=f"{number:04}", prompt=prompt, record=record_of(row), category=category))
    return sorted(prompts, key=lambda prompt: prompt.benchmark_id)


def _refuse_other_version(file: PromptFile, row: Mapping[str, Any], category: str) -> None:
    """Whether a file is of the version that was asked for shows where the boundaries have moved."""
    said = f"{row.get('Category', '')} {row.get('Subcategory', '')}".lower()
    named = {name for name in VERIFIED if name in said}
    if len(named) == 1 and named != {category} and category in VERIFIED:
        raise WrongFile(f"{file.name} has prompt {row['prompt_id']} under {named.pop()}: it is of the other version")


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        yield Place(path=f"{int(shown.prompt.benchmark_id)}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    there = {entry.path for entry in store.list(recursive=False)}
    for prompt in prompts:
        if (path := f"{prompt.benchmark_id.lstrip('0')}.png") in there:
            yield Found(path, prompt.benchmark_id, 0)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    wanted = [prompt.benchmark_id.lstrip("0") + ".png" for prompt in prompts]
    missing = "the scorer warns, and gives no total"
    yield from compared([entry.path for entry in store.list()], wanted, missing, "the scorer passes over it")


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """Lines of prompt_id and one score of 0 or 1."""
    yield from _scores(file, lambda row: float(row["score"]))


def read_legacy_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """WiScore = (0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2, each of 0, 1 or 2."""
    weights = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}
    yield from _scores(file, lambda row: sum(weight * float(row[name]) for name, weight in weights.items()) / 2)


def _scores(file: PromptFile, score: Callable[[Mapping[str, Any]], float]) -> Iterator[Judged]:
    for line, row in file.lines():
        try:
            yield Judged(f"{int(row['prompt_id'])}.png", score(row), row)
        except (KeyError, TypeError, ValueError) as error:
            raise WrongFile(f"it has a line without its scores: {line[:80]}") from error


WISE = Benchmark(
    name="wise",
    title="WISE (Verified)",
    scorer="PKU-YuanGroup/WISE@eb51174",
    licence="none",
    files="the JSON files of data_verified/, lists of objects with Prompt, Explanation and prompt_id",
    size=1000,
    images=1,
    read=partial(read, VERIFIED),
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="0.40 culture + 0.12 of each other category, each a mean over prompts",
)
WISE_LEGACY = Benchmark(
    name="wise-legacy",
    title="WISE before its verified version",
    scorer="PKU-YuanGroup/WISE@eb51174, WISE_legacy",
    licence="none",
    files="the JSON files of WISE_legacy/data/, lists of objects with Prompt, Explanation and prompt_id",
    size=1000,
    images=1,
    read=partial(read, LEGACY),
    place=place,
    find=find,
    check=check,
    read_scores=read_legacy_scores,
    total="0.4 culture + 0.167 time + 0.133 space + 0.1 each of biology, physics and chemistry",
)
