"""GenAI-Bench: 1600 prompts in genai_image.json, with their skills in genai_skills.json; one JPEG a prompt.

Facts of its code: github.com/linzhiqiu/t2v_metrics, commit 6ecb74f, genai_bench/evaluate.py (Apache-2.0). Its scores
are a tensor (prompts, images, texts) in a .pt file, which only torch reads safely: they are taken as JSON. Knows no
run.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.evaluate.benchmark import ALL, Benchmark, Form, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of, text_of
from batchgen.storage.store import Store

JPEG = Form("jpeg")
AS_JSON = "import json, sys, torch; json.dump(torch.load(sys.argv[1], weights_only=True).tolist(), sys.stdout)"
PICKLED = (b"PK", b"\x80")  # how a file of torch begins, and one of its first versions


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    skills = next((file for file in files if "skills" in file.name), None)
    others = [file for file in files if file is not skills]
    if len(others) != 1:
        raise WrongFile(f"{len(others)} of the files are not the skills'")
    advanced, basic = (_numbers(skills, group) for group in ("advanced", "basic"))
    rows = others[0].json()
    if not isinstance(rows, dict):
        raise WrongFile(f"{others[0].name} is no JSON object of prompts by their number")
    prompts = []
    for key, row in rows.items():
        if not key.isdigit() or not isinstance(row, dict):
            raise WrongFile(f"{others[0].name} has {key!r}, which is no prompt's number")
        category = "advanced" if int(key) in advanced else "basic" if int(key) in basic else ALL
        prompt = text_of(row, "prompt", f"{others[0].name}, {key!r}")
        prompts.append(Prompt(benchmark_id=key, prompt=prompt, record=record_of({key: row}), category=category))
    return prompts


def _numbers(skills: PromptFile | None, group: str) -> set[int]:
    said = skills.json() if skills else {}
    if not isinstance(said, dict):
        raise WrongFile(f"{skills and skills.name} is no JSON object of lists")
    return {int(number) for number in said.get(group, [])}


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        yield Place(path=f"{model}/{shown.prompt.benchmark_id}.jpeg", images=(shown.image_id,), form=JPEG)


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    there = {entry.path for entry in store.list()}
    for model in sorted({path.partition("/")[0] for path in there if "/" in path}):
        for prompt in prompts:
            if (path := f"{model}/{prompt.benchmark_id}.jpeg") in there:
                yield Found(path, prompt.benchmark_id, 0)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    there = {entry.path for entry in store.list()}
    models = sorted({path.partition("/")[0] for path in there if "/" in path})
    if not models:
        yield "there is no folder of a model: images lie in <output_dir>/<gen_model>/"
    for model in models:
        for prompt in prompts:
            path = f"{model}/{prompt.benchmark_id}.jpeg"
            if path not in there:
                yield f"{path}: is missing, and the scorer ends there"
            there.discard(path)
    for path in sorted(there):
        yield f"{path}: the scorer passes over it; it reads <gen_model>/<number of five digits>.jpeg"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """A list of a score for each prompt, in the order of their numbers, as the scorer's tensor has them."""
    if file.data.startswith(PICKLED):
        name, made = shlex.quote(file.name), shlex.quote(f"{file.stem}.json")
        raise WrongFile(f"it is torch's; where it lies, make JSON of it: python3 -c '{AS_JSON}' {name} > {made}")
    rows = file.json()
    scores = [_the_only(row) for row in rows] if isinstance(rows, list) else []
    if not scores or not all(isinstance(score, int | float) for score in scores):
        raise WrongFile("it is no list of scores, one for each prompt")
    if len(scores) != len(paths):
        raise WrongFile(f"it has {len(scores)} scores, and the export {len(paths)} images")
    for path, score in zip(sorted(paths), scores, strict=True):
        yield Judged(path, float(score))


def _the_only(row: Any) -> Any:
    """A score out of its lists: each prompt has one image and one text."""
    while isinstance(row, list) and len(row) == 1:
        (row,) = row
    return row


GENAI_BENCH = Benchmark(
    name="genai-bench",
    title="GenAI-Bench",
    scorer="linzhiqiu/t2v_metrics@6ecb74f",
    licence="Apache-2.0",
    files="genai_image.json, a JSON object of prompts by their number, and genai_skills.json",
    size=1600,
    images=1,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="the mean over prompts",
)
