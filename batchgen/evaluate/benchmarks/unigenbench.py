"""UniGenBench++: 600 prompts with test points, in English and Chinese, short and long; four images a prompt.

Facts of its code: github.com/CodeGoat24/UniGenBench, commit 49d0bce (CC BY 4.0; its card on the hub says MIT). Knows no
run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Question, Shown
from batchgen.evaluate.benchmarks.names import compared, models_in
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of
from batchgen.storage.store import Store


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    prompts = []
    for file in files:
        category = file.stem.removeprefix("test_prompts_")
        language = category.partition("_")[0]
        if language not in ("en", "zh") or category == file.stem:
            raise WrongFile(f"{file.name} is none of test_prompts_en, _en_long, _zh and _zh_long.csv")
        for row in file.rows(("index", f"prompt_{language}", f"sub_dims_{language}")):
            prompts.append(_prompt(file, row, category, language))
    return prompts


def _prompt(file: PromptFile, row: dict[str, str], category: str, language: str) -> Prompt:
    try:
        index, points = int(row["index"]), json.loads(row[f"sub_dims_{language}"])
        asked = list(zip(points["Testpoints"], points["Testpoint Description"], strict=True))
    except (ValueError, KeyError, TypeError) as error:
        raise WrongFile(f"{file.name}: prompt {row['index']!r} has no test points ({error})") from error
    return Prompt(
        benchmark_id=f"{category}-{index:03}",
        prompt=row[f"prompt_{language}"],
        record=record_of(row),
        category=category,
        questions=tuple(Question(id=str(point), question=str(text)) for point, text in asked),
    )


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        index = int(shown.prompt.benchmark_id.rpartition("-")[2])
        path = f"{shown.prompt.category}/{model}/{index}_{shown.sample}.png"
        yield Place(path=path, images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    there = {entry.path for entry in store.list()}
    for prompt, sample, path in _asked(there, prompts):
        if path in there:
            yield Found(path, prompt.benchmark_id, sample)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    there = {entry.path for entry in store.list()}
    wanted = [path for _, _, path in _asked(there, prompts)]
    if not wanted:
        yield "there is no folder of a model: images lie in <en, zh, ...>/<model>/"
    yield from compared(there, wanted, "the scorer ends there", "the scorer passes over it")


def _asked(there: set[str], prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, int, str]]:
    """(prompt, sample, path) of all that the scorer opens."""
    for model in models_in(there, 1):
        for prompt in prompts:
            category, _, index = prompt.benchmark_id.rpartition("-")
            for sample in (0, 1, 2, 3):
                yield prompt, sample, f"{category}/{model}/{index.lstrip('0') or '0'}_{sample}.png"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """A row for each image, with the 0 or 1 of each of its test points; a row that cannot be parsed has no score."""
    for row in file.rows(("img_path", "testpoint", "result_json")):
        points, scores = _literal(row["testpoint"]), _literal(row["result_json"])
        if isinstance(scores, dict):
            scores = scores.get("score")
        if not isinstance(points, list) or not isinstance(scores, list) or len(points) != len(scores) or not scores:
            yield Judged(row["img_path"], None)
            continue
        right = [float(score == 1) for score in scores]
        yield Judged(row["img_path"], sum(right) / len(right), dict(zip(map(str, points), right, strict=True)))


def _literal(text: str) -> Any:
    """A value as the scorer wrote it: JSON, or Python's way to write a list."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return None


UNIGENBENCH = Benchmark(
    name="unigenbench",
    title="UniGenBench++",
    scorer="CodeGoat24/UniGenBench@49d0bce",
    licence="CC BY 4.0",
    files="one or more of test_prompts_en.csv, _en_long, _zh and _zh_long, with index, prompt_* and sub_dims_*",
    images=4,
    seed=3407,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="none; each dimension has its share of right test points over all images (in the details: each point's)",
)
