"""PartiPrompts: 1632 prompts of categories and challenges, in PartiPrompts.tsv. It has no scorer and no layout.

Its images are put into one flat folder, for whatever scores them. Source: github.com/google-research/parti
(Apache-2.0). Knows no run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from batchgen.evaluate.benchmark import Benchmark, Found, Place, Prompt, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of, the_only
from batchgen.storage.store import Store


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    file = the_only(files)
    prompts = []
    for number, row in enumerate(file.rows(("Prompt", "Category", "Challenge"), "\t")):
        if not row["Prompt"].strip():
            raise WrongFile(f"{file.name}: row {number + 1} has no prompt")
        prompts.append(
            Prompt(benchmark_id=f"{number:05}", prompt=row["Prompt"], record=record_of(row), category=row["Category"])
        )
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        yield Place(path=f"{shown.prompt.benchmark_id}_{shown.sample}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    wanted = {prompt.benchmark_id for prompt in prompts}
    counts = Counter[str]()
    for entry in store.list():
        name = re.fullmatch(r"(\d{5})(_\d+)?\.(png|jpg|jpeg|webp)", entry.path)
        if name and name[1] in wanted:
            yield Found(entry.path, name[1], counts[name[1]])
            counts[name[1]] += 1


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    found = {one.path: one.benchmark_id for one in find(store, prompts)}
    for entry in store.list():
        if entry.path not in found:
            yield f"{entry.path}: is no image of a prompt (five digits, and _ with a number)"
    for prompt in prompts:
        if prompt.benchmark_id not in found.values():
            yield f"prompt {prompt.benchmark_id} ({prompt.prompt!r}) has no image"


PARTIPROMPTS = Benchmark(
    name="partiprompts",
    title="PartiPrompts",
    scorer="none",
    licence="Apache-2.0",
    files="PartiPrompts.tsv with Prompt, Category, Challenge and Note",
    size=1632,
    read=read,
    place=place,
    find=find,
    check=check,
    total="none",
)
