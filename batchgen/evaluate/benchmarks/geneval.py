"""GenEval: 553 prompts of objects, counts, colours and positions, in evaluation_metadata.jsonl.

The scorer walks folders whose names are digits, each with metadata.jsonl and samples/. Facts of its code:
github.com/djghosh13/geneval, commit af4902f, evaluation/evaluate_images.py and summary_scores.py (MIT). Knows no run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, text_of, the_only
from batchgen.storage.store import Store

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
SAMPLE = re.compile(r"\d+\.png")  # the scorer's re.match: what follows the name is not looked at


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    file = the_only(files)
    prompts = []
    for number, (line, row) in enumerate(file.lines()):
        where = f"{file.name}, line {number + 1}"
        tag = text_of(row, "tag", where)
        if tag not in TAGS or not isinstance(row.get("include"), list):
            raise WrongFile(f"{where} has the tag {tag!r} or no list 'include'; tags are {', '.join(TAGS)}")
        prompt = text_of(row, "prompt", where)
        prompts.append(Prompt(benchmark_id=f"{number:05}", prompt=prompt, record=line, category=tag))
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    begun = set[str]()
    for shown in images:
        folder = shown.prompt.benchmark_id
        if folder not in begun:
            begun.add(folder)
            yield Place(path=f"{folder}/metadata.jsonl", text=shown.prompt.record.encode())
        yield Place(path=f"{folder}/samples/{shown.sample:04}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    """A folder is of the prompt that its metadata.jsonl says, as for the scorer; its number says nothing."""
    folders = _folders([entry.path for entry in store.list()])
    ids = {prompt.prompt: prompt.benchmark_id for prompt in prompts}
    for folder, names in sorted(folders.items()):
        try:
            said: Any = json.loads(store.read(f"{folder}/metadata.jsonl"))
            benchmark_id = ids.get(str(said["prompt"]))
        except (OSError, ValueError, LookupError, TypeError):  # the scorer ends there, and check() says so
            continue
        samples = sorted(name for name in names if re.match(r"samples/\d+\.png", name))
        for sample, name in enumerate(samples if benchmark_id else []):
            yield Found(f"{folder}/{name}", str(benchmark_id), sample)


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    entries = store.list()
    paths = [entry.path for entry in entries]
    folders = _folders(paths)
    yield from (f"{one.path}: is empty, and the scorer ends there" for one in entries if _is_empty(one.path, one.size))
    yield from _uneven(folders)
    if not folders:
        yield "no folder's name is all digits: the scorer would read nothing"
    for path in paths:
        if path.split("/")[0] not in folders:
            yield f"{path}: the scorer passes over it, as its folder's name is not all digits"
    wanted = {prompt.prompt: prompt for prompt in prompts}
    for folder, names in sorted(folders.items()):
        yield from _folder_problems(store, folder, names, wanted)
    for prompt in wanted.values():
        yield f"prompt {prompt.benchmark_id} ({prompt.prompt!r}) has no folder, and the scorer would not notice"


def _is_empty(path: str, size: int) -> bool:
    return not size and re.fullmatch(r"\d+/samples/\d+\.png", path) is not None


def _uneven(folders: dict[str, list[str]]) -> Iterator[str]:
    """The scorer's means are over images: a prompt with fewer of them than others counts for less, without a word."""
    images = re.compile(r"samples/\d+\.png")
    counts = {folder: sum(bool(images.fullmatch(name)) for name in names) for folder, names in folders.items()}
    most = max(counts.values(), default=0)
    for folder, count in sorted(counts.items()):
        if 0 < count < most:
            yield f"{folder}/samples: has {count} images and others have {most}, so that its prompt counts for less"


def _folder_problems(store: Store, folder: str, names: list[str], wanted: dict[str, Prompt]) -> Iterator[str]:
    """Of one folder; takes its prompt out of those that are wanted."""
    if "metadata.jsonl" not in names:
        yield f"{folder}/metadata.jsonl: is missing, and the scorer ends there"
        return
    try:
        said: Any = json.loads(store.read(f"{folder}/metadata.jsonl"))
        prompt = wanted.pop(str(said["prompt"]), None)
        if prompt is None:
            yield f"{folder}/metadata.jsonl: is of a prompt that is not asked for, or twice there: {said['prompt']!r}"
        elif said != json.loads(prompt.record):
            yield f"{folder}/metadata.jsonl: is not the line of the prompt file"
    except (ValueError, LookupError, TypeError):
        yield f"{folder}/metadata.jsonl: is not a line of the prompt file, and the scorer ends there"
    samples = [name.removeprefix("samples/") for name in names if name.startswith("samples/")]
    if not samples:
        yield f"{folder}/samples: holds no images"
    for name in samples:
        if not SAMPLE.match(name):
            yield f"{folder}/samples/{name}: the scorer passes over it; it reads digits.png"
        elif not SAMPLE.fullmatch(name):
            yield f"{folder}/samples/{name}: the scorer takes it for an image, as its name begins like one"
    for name in names:
        if name != "metadata.jsonl" and not name.startswith("samples/"):
            yield f"{folder}/{name}: the scorer passes over it; images lie in samples/"


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    for _, row in file.lines():
        if not isinstance(row.get("correct"), bool) or not isinstance(row.get("filename"), str):
            raise WrongFile("a line has no 'filename' and 'correct', as evaluate_images.py writes them")
        detail: dict[str, Any] = {name: row[name] for name in ("tag", "reason") if name in row}
        prompt = row["prompt"] if isinstance(row.get("prompt"), str) else None
        yield Judged(row["filename"], float(row["correct"]), detail, prompt=prompt)


def _folders(paths: Sequence[str]) -> dict[str, list[str]]:
    """Folders whose names are digits → what lies in them."""
    found: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.partition("/")
        if name and folder.isdigit():
            found.setdefault(folder, []).append(name)
    return found


GENEVAL = Benchmark(
    name="geneval",
    title="GenEval",
    scorer="djghosh13/geneval@af4902f",
    licence="MIT",
    files="evaluation_metadata.jsonl, one JSON object a line with tag, include and prompt",
    size=553,
    images=4,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="the mean of the six tags' means over images",
)
