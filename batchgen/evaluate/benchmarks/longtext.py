"""LongText-Bench: 160 prompts of long texts in a picture, in text_prompts.jsonl or text_prompts_zh.jsonl.

The scorer takes each .png of one folder, its prompt by the number before the '_', and compares what it reads there
with the text, as a bag of words. Facts of its code: X-Omni-Team/X-Omni, commit 2b8237b, textbench/ (Apache-2.0).
Knows no run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from batchgen.evaluate.benchmark import Benchmark, Found, Judged, Place, Prompt, Question, Shown
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, text_of, the_only
from batchgen.storage.store import Store

# What counts of a text: Chinese, Latin with the accents of French, digits; the rest is left out.
LETTERS = re.compile(r"[^\u4e00-\u9fa5a-z0-9\sàâäéèêëîïôöùûüç]", re.IGNORECASE)
CHINESE = re.compile(r"[\u4e00-\u9fa5]")


def read(files: Sequence[PromptFile]) -> list[Prompt]:
    file = the_only(files)  # ids of the two languages are the same
    prompts = []
    for number, (line, row) in enumerate(file.lines(), 1):
        where = f"{file.name}, line {number}"
        if not isinstance(row.get("prompt_id"), int) or "text" not in row:
            raise WrongFile(f"{where} has no 'prompt_id' and 'text'")
        prompts.append(
            Prompt(
                benchmark_id=f"{row['prompt_id']:04}",
                prompt=text_of(row, "prompt", where),
                record=line,
                questions=(Question(id="0", question="What text is in the image?", answer=_joined(row["text"])),),
            )
        )
    return prompts


def place(images: Sequence[Shown], model: str) -> Iterator[Place]:
    for shown in images:
        yield Place(path=f"{shown.prompt.benchmark_id}_{shown.sample + 1}.png", images=(shown.image_id,))


def find(store: Store, prompts: Sequence[Prompt]) -> Iterator[Found]:
    wanted = {int(prompt.benchmark_id): prompt for prompt in prompts}
    counts = Counter[int]()
    for entry in store.list(recursive=False):
        number = _number(entry.path)
        if number in wanted:
            yield Found(entry.path, wanted[number].benchmark_id, counts[number])
            counts[number] += 1


def check(store: Store, prompts: Sequence[Prompt]) -> Iterator[str]:
    wanted = {int(prompt.benchmark_id) for prompt in prompts}
    counts = Counter[int]()
    for entry in store.list():
        if "/" in entry.path or not entry.path.endswith(".png"):
            yield f"{entry.path}: the scorer passes over it; it reads *.png of one folder"
        elif (number := _number(entry.path)) is None:
            yield f"{entry.path}: the scorer ends there, as its name does not begin with a prompt's number"
        elif number not in wanted:
            yield f"{entry.path}: the scorer ends there, as there is no prompt {number}; the numbers have gaps"
        else:
            counts[number] += 1
    for number in sorted(wanted):
        if counts[number] != 4:
            yield f"prompt {number}: has {counts[number]} images; the benchmark asks for 4, and takes what is there"


def _number(name: str) -> int | None:
    """The prompt of a file of the folder, by the scorer's rule; None where it has none."""
    if not name.endswith(".png"):
        return None
    begin = name.split("_")[0] if "_" in name else name.split(".")[0]
    return int(begin) if re.fullmatch(r"\s*\d+\s*", begin) else None


def read_scores(file: PromptFile, paths: Sequence[str]) -> Iterator[Judged]:
    """results_chunk*.jsonl: what was read in each image. The share of the text's words, each as often as it occurs."""
    for _, row in file.lines():
        if not {"image", "ocr_gt", "ocr_results"} <= row.keys():
            raise WrongFile("a line has no 'image', 'ocr_gt' and 'ocr_results'")
        text = _joined(row["ocr_gt"])
        asked, seen = (
            _words(text, bool(CHINESE.search(text))),
            _words(str(row["ocr_results"]), bool(CHINESE.search(text))),
        )
        matched, words = (asked & seen).total(), asked.total()
        detail = {"matched": matched, "words": words, "read": row["ocr_results"]}
        yield Judged(str(row["image"]), matched / words if words else None, detail)


def _joined(text: object) -> str:
    return " ".join(map(str, text)) if isinstance(text, list) else str(text)


def _words(text: str, chinese: bool) -> Counter[str]:
    kept = LETTERS.sub("", text)
    return Counter("".join(kept.split())) if chinese else Counter(kept.lower().split())


LONGTEXT = Benchmark(
    name="longtext",
    title="LongText-Bench",
    scorer="X-Omni-Team/X-Omni@2b8237b",
    licence="Apache-2.0",
    files="text_prompts.jsonl or text_prompts_zh.jsonl, one JSON object a line with prompt_id, prompt and text; one "
    "language at a time",
    size=160,
    images=4,
    read=read,
    place=place,
    find=find,
    check=check,
    read_scores=read_scores,
    total="all matched words / all words, over all images (in the details: matched, words)",
)
