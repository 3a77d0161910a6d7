"""T2I-CoReBench: twelve files of 90 prompts, each with a checklist of questions; four images a prompt.

Facts of its code: KlingTeam/T2I-CoReBench, commit ebf7b7a, evaluate.py (Apache-2.0). Knows no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Question, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of, text_of
from batchgen.storage.store import Store


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    prompts = []
    for file in files:
        rows = file.json()
        if not isinstance(rows, dict):
            raise WrongFile(f"{file.name} is no JSON object of prompts by their id")
        for key, row in rows.items():
            asked = row.get("Checklist") if isinstance(row, dict) else None
            if key.count("-") != 2 or not isinstance(asked, list) or not all(_is_question(one) for one in asked):
                raise WrongFile(f"{file.name}: {key!r} is no id of three parts with a 'Checklist' of questions")
            prompts.append(
                Prompt(
                    benchmark_id=key,
                    prompt=text_of(row, "Prompt", f"{file.name}, {key!r}"),
                    record=record_of({key: row}),
                    category=file.stem,
                    questions=tuple(Question(id=str(at), question=one["question"]) for at, one in enumerate(asked)),
                )
            )
    return prompts


def _is_question(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("question"), str)


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        path = f"{model}/{shown.prompt.category}/{shown.prompt.benchmark_id}-{shown.sample}.png"
        yield Place(path=path, images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    wanted = {(prompt.category, prompt.benchmark_id) for prompt in prompts}
    counts = Counter[str]()
    for entry in store.list():
        _, category, name = ["", "", *entry.path.split("/")][-3:]
        key = "-".join(name.split("-")[:3])
        if entry.path.count("/") == 2 and name.lower().endswith(".png") and (category, key) in wanted:
            model = f"{entry.path.split('/')[0]}/{key}"
            yield Found(entry.path, key, counts[model])
            counts[model] += 1


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    categories = {prompt.category for prompt in prompts}
    wanted = {(prompt.category, prompt.benchmark_id) for prompt in prompts}
    counts = Counter[tuple[str, str, str]]()
    models = set[str]()
    for entry in store.list():
        parts = entry.path.split("/")
        if len(parts) == 2 and parts[1].endswith(".json"):
            yield f"{entry.path}: is a result, and with it the scorer skips its images: delete it to score again"
        elif len(parts) != 3 or parts[1] not in categories or not parts[2].lower().endswith(".png"):
            yield f"{entry.path}: the scorer passes over it; it reads <model>/<dimension>/<id>-<number>.png"
        elif (parts[1], key := "-".join(parts[2].split("-")[:3])) not in wanted:
            yield f"{entry.path}: the scorer ends there, as {parts[1]} has no prompt {key!r}"
        else:
            counts[parts[0], parts[1], key] += 1
            models.add(parts[0])
    if not models:
        yield "there is no folder of a model with images"
    for model in sorted(models):
        for category, key in sorted(wanted):
            if (count := counts[model, category, key]) != 4:
                yield f"{model}/{category}: prompt {key} has {count} images, of 4; the scorer would not notice"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """<dimension>-<judge>.json: for each image its checklist with scores and their mean, '' where none was readable."""
    rows = file.json()
    if not isinstance(rows, dict) or "mean_score" not in rows:
        raise WrongFile(f"{file.name} has no mean_score, as <dimension>-<judge>.json has")
    known = {path.rpartition("/")[2].split(".")[0]: path for path in paths}
    for key, row in rows.items():
        if key == "mean_score":
            continue
        if not isinstance(row, dict) or "image_score" not in row:
            raise WrongFile(f"{file.name}: {key!r} has no image_score")
        answers = [one.get("score") for one in row.get("Checklist", [])]
        score = None if row["image_score"] == "" else float(row["image_score"])
        yield Judged(known.get(key, f"{key}.png"), score, {"answers": answers})


COREBENCH = Benchmark(
    name="corebench",
    title="T2I-CoReBench",
    scorer="KlingTeam/T2I-CoReBench@ebf7b7a",
    licence="Apache-2.0",
    files="one or more of its twelve data/<dimension>.json, objects of Prompt and Checklist by their id",
    images=4,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="each dimension has its own: the mean over images of the share of its checklist",
)
