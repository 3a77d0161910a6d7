"""DSG-1k: 1060 prompts with questions that depend on one another, in dsg-1k-anns.csv; one image a prompt.

Its code reads tables of answers by item_id and no folder, so images are called by that. Facts of it:
github.com/j-min/DSG, commit 7330119 (Apache-2.0). Knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.benchmarks.dependent_questions import one_table, read_table
from batchgen.evaluate.benchmarks.names import compared
from batchgen.evaluate.prompt_file import PromptFile, WrongFile
from batchgen.storage.store import Store


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    return list(read_table(one_table(files)))


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        yield Place(path=f"{shown.prompt.benchmark_id}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    there = {entry.path for entry in store.list(recursive=False)}
    for prompt in prompts:
        if f"{prompt.benchmark_id}.png" in there:
            yield Found(f"{prompt.benchmark_id}.png", prompt.benchmark_id, 0)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    wanted = [prompt.benchmark_id + ".png" for prompt in prompts]
    there = [entry.path for entry in store.list()]
    yield from compared(there, wanted, "its prompt would have no answers", "is of no prompt")


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """A table of answers. In order of the questions, one with a parent that is not right is not right itself."""
    items: dict[str, dict[str, bool]] = {}
    for row in file.rows(("item_id", "question_id", "dependency_id", "answer")):
        item = items.setdefault(row["item_id"], {})
        parents = [part.strip() for part in row["dependency_id"].split(",")]
        item[row["question_id"]] = row["answer"] == "yes" and all(item.get(parent, True) for parent in parents)
    if not items:
        raise WrongFile("it has no answers")
    for name, item in items.items():
        yield Judged(f"{name}.png", sum(item.values()) / len(item), item)


DSG = Benchmark(
    name="dsg",
    title="DSG-1k",
    scorer="j-min/DSG@7330119",
    licence="Apache-2.0",
    files="dsg-1k-anns.csv with item_id, text, proposition_id, dependency and question_natural_language",
    size=1060,
    images=1,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="the mean over prompts",
)
