"""The table that DPG-Bench and DSG share: a row for each question of a prompt, with the questions it depends on.

Columns as in ELLA's dpg_bench.csv and j-min/DSG's dsg-1k-anns.csv. Knows no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from batchgen.evaluate.benchmark import Prompt, Question
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, record_of

COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")


def read_table(file: PromptFile, texts: Mapping[str, str] | None = None) -> Iterator[Prompt]:
    """Prompts in the order of their first row. texts: item_id → the prompt, where other files say it."""
    items: dict[str, list[dict[str, str]]] = {}
    for row in file.rows(COLUMNS):
        items.setdefault(row["item_id"], []).append(row)
    for item, rows in items.items():
        text = texts.get(item, "") if texts else rows[0]["text"]
        if not item or not text.strip():
            raise WrongFile(f"{file.name}: item {item!r} has no prompt")
        questions = tuple(_question(file, row) for row in rows)
        yield Prompt(benchmark_id=item, prompt=text.strip(), record=record_of(rows), questions=questions)


def _question(file: PromptFile, row: Mapping[str, str]) -> Question:
    parents = [part.strip() for part in row["dependency"].split(",") if part.strip()]
    if not all(part.lstrip("-").isdigit() for part in [row["proposition_id"], *parents]):
        raise WrongFile(f"{file.name}: a question of {row['item_id']!r} has a number that is none")
    return Question(
        id=row["proposition_id"],
        question=row["question_natural_language"],
        parents=tuple(part for part in parents if part != "0"),  # 0: it depends on none
    )


def one_table(files: Sequence[PromptFile]) -> PromptFile:
    """The .csv among them. Raises WrongFile where it is not one."""
    tables = [file for file in files if file.name.endswith(".csv")]
    if len(tables) != 1:
        raise WrongFile(f"{len(tables)} of the files are .csv")
    return tables[0]
