"""TIIF-Bench: prompts of many types, each short and long, one image each, called by the number of its line.

Its repository has no licence, so none of its prompts stand here. Facts of its code: github.com/A113N-W3I/TIIF-Bench,
commit 3aae750, eval/eval_with_vlm.py. Knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Question, Shown
from batchgen.evaluate.benchmarks.names import models_in
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, text_of
from batchgen.storage.store import Store

LENGTHS = {"short": "short_description", "long": "long_description"}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    """Prompts; files of questions among them (yn_question_list) are tied by type and line."""
    asked: dict[tuple[str, int], dict[str, Any]] = {}
    tables = list[tuple[PromptFile, list[tuple[str, dict[str, Any]]]]]()
    for file in files:
        lines = file.lines()
        if lines and "yn_question_list" in lines[0][1]:
            asked |= {(str(row.get("type")), number): row for number, (_, row) in enumerate(lines)}
        else:
            tables.append((file, lines))
    prompts = []
    for file, lines in tables:
        for number, (line, row) in enumerate(lines):
            where = f"{file.name}, line {number + 1}"
            kind = text_of(row, "type", where)
            questions = _questions(asked.get((kind, number), {}))
            for length, column in LENGTHS.items():
                prompts.append(
                    Prompt(
                        benchmark_id=f"{kind}-{length}-{number}",
                        prompt=text_of(row, column, where),
                        record=line,
                        category=kind,
                        questions=questions,
                    )
                )
    return prompts


def _questions(row: dict[str, Any]) -> tuple[Question, ...]:
    texts, answers = row.get("yn_question_list", []), row.get("yn_answer_list", [])
    if len(texts) != len(answers):
        raise WrongFile(f"a line of {row.get('type')} has {len(texts)} questions and {len(answers)} answers")
    pairs = enumerate(zip(texts, answers, strict=True))
    return tuple(Question(id=str(at), question=str(text), answer=str(answer)) for at, (text, answer) in pairs)


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        kind, length, number = shown.prompt.benchmark_id.rsplit("-", 2)
        yield Place(path=f"{kind}/{model}/{LENGTHS[length]}/{number}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    by_stem: dict[str, list[str]] = {}
    for entry in store.list():
        name = PurePosixPath(entry.path)
        if name.suffix.lower() in ENDINGS:
            by_stem.setdefault(str(name.parent / name.name.split(".")[0]), []).append(entry.path)
    for model in models_in([path for paths in by_stem.values() for path in paths], 1):
        for prompt in prompts:
            kind, length, number = prompt.benchmark_id.rsplit("-", 2)
            for path in by_stem.get(f"{kind}/{model}/{length}_description/{number}", []):
                yield Found(path, prompt.benchmark_id, 0)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    there = {entry.path for entry in store.list()}
    found: dict[tuple[str, str], list[str]] = {}
    for one in find(store, prompts):
        found.setdefault((one.path.split("/")[1], one.benchmark_id), []).append(one.path)
    models = sorted({model for model, _ in found})
    if not models:
        yield "there are no images in <type>/<model>/short_description/ and long_description/"
    for model in models:
        for prompt in prompts:
            paths = found.get((model, prompt.benchmark_id), [])
            if not paths:
                yield f"{model}: has no image of {prompt.benchmark_id}, and the scorer passes over the prompt"
            elif len(paths) > 1:
                yield f"{model}: has {len(paths)} images of {prompt.benchmark_id}, and the scorer takes any of them"
    for path in sorted(there.difference(*found.values())):
        yield f"{path}: the scorer passes over it"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """A JSON file for each image: the share of its questions that were answered as they should be."""
    row = file.json()
    try:
        wanted, said = [str(one).lower() for one in row["gt_answers"]], [str(one).lower() for one in row["model_pred"]]
        begin, middle = f"{row['attribute']}/", f"/{row['desc']}/{int(row['line_idx'])}."
        right = [float(one == other) for one, other in zip(wanted, said, strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise WrongFile(f"{file.name} has no attribute, desc, line_idx, gt_answers and model_pred ({error})") from error
    fitting = [path for path in paths if path.startswith(begin) and middle in path]
    path = fitting[0] if fitting else f"{begin}...{middle}png"
    yield Judged(path, sum(right) / len(right) if right else None, {"answers": said})


TIIF = Benchmark(
    name="tiif",
    title="TIIF-Bench",
    scorer="A113N-W3I/TIIF-Bench@3aae750",
    licence="none",
    files="its *_prompts.jsonl, one JSON object a line with type, short_description and long_description; its "
    "*_eval_prompts.jsonl with yn_question_list may be given too",
    images=1,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="short and long apart: the mean of nine groups of types, each a share of right answers",
)
