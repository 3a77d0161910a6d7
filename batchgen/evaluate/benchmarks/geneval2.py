"""GenEval 2: 800 prompts with a list of questions each, in geneval2_data.jsonl (CC BY-NC 4.0: no commercial use).

The scorer reads a JSON object prompt → path, one image a prompt, and paths are taken from where it is started: start
it in the folder. Facts of its code: github.com/facebookresearch/GenEval2, commit a6e82d2. Knows no run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Question, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, text_of, the_only
from batchgen.storage.store import Store

MAP = "image_paths.json"  # what --image_filepath_data is given


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    file = the_only(files)
    prompts = []
    for number, (line, row) in enumerate(file.lines()):
        where = f"{file.name}, line {number + 1}"
        asked = row.get("vqa_list")
        if (
            not isinstance(asked, list)
            or not asked
            or not all(isinstance(one, list) and len(one) == 2 for one in asked)
        ):
            raise WrongFile(f"{where} has no 'vqa_list' of questions and answers")
        prompts.append(
            Prompt(
                benchmark_id=f"{number:05}",
                prompt=text_of(row, "prompt", where),
                record=line,
                questions=tuple(
                    Question(id=str(at), question=str(question), answer=str(answer))
                    for at, (question, answer) in enumerate(asked)
                ),
            )
        )
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    paths = {}
    for shown in images:
        path = paths[shown.prompt.prompt] = f"images/{shown.prompt.benchmark_id}.png"
        yield Place(path=path, images=(shown.image_id,))
    yield Place(path=MAP, text=json.dumps(paths, ensure_ascii=False, indent=1).encode())


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    paths = _paths(store)
    for prompt in prompts:
        if prompt.prompt in paths:
            yield Found(paths[prompt.prompt], prompt.benchmark_id, 0)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    there = {entry.path for entry in store.list()}
    try:
        paths = _paths(store)
    except FileNotFoundError:
        yield "image_paths.json: is missing; the scorer is given a JSON object of prompts and the paths of their images"
        return
    except (ValueError, TypeError) as error:
        yield f"image_paths.json: is no JSON object of prompts and paths ({error})"
        return
    for prompt in prompts:
        path = paths.pop(prompt.prompt, None)
        if path is None:
            yield f"prompt {prompt.benchmark_id} ({prompt.prompt!r}) is not in image_paths.json: the scorer ends there"
        elif path not in there:
            yield f"{path}: is missing, the image of prompt {prompt.benchmark_id}; the scorer ends there"
        there.discard(path or "")
    for text in paths:
        yield f"image_paths.json: names an image of no prompt ({text!r}), and the scorer passes over it"
    for path in sorted(there - {"image_paths.json"}):
        yield f"{path}: no prompt has this image, and the scorer passes over it"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """A list for each prompt, in the order of the prompts: the probabilities of its answers, by soft-TIFA."""
    lists = file.json()
    images = sorted(path for path in paths if path != MAP)
    if not isinstance(lists, list) or not all(isinstance(one, list) and one for one in lists):
        raise WrongFile("it is no list of lists")
    if len(lists) != len(images):
        raise WrongFile(f"it has {len(lists)} lists, and the export {len(images)} images")
    for path, values in zip(images, lists, strict=True):
        atoms = [min(max(float(value), 0.0), 1.0) for value in values]  # sums of probabilities can pass 1
        geometric = math.prod(atoms) ** (1 / len(atoms))
        detail: dict[str, Any] = {"soft_tifa_am": sum(atoms) / len(atoms), "soft_tifa_gm": geometric, "atoms": values}
        yield Judged(path, geometric, detail)


def _paths(store: Store) -> dict[str, str]:
    said = json.loads(store.read("image_paths.json"))
    return {str(prompt): str(path) for prompt, path in said.items()} if isinstance(said, dict) else dict(said)


GENEVAL2 = Benchmark(
    name="geneval2",
    title="GenEval 2",
    scorer="facebookresearch/GenEval2@a6e82d2",
    licence="CC BY-NC 4.0",
    files="geneval2_data.jsonl, one JSON object a line with prompt, atom_count, vqa_list and skills",
    size=800,
    images=1,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="the mean of soft-TIFA's geometric mean over prompts (soft_tifa_am in the details is the arithmetic one)",
)
