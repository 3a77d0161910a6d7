"""The pages are true: their commands, YAML, paths, links, columns and tests exist.

Their Python runs in tests/render, on the demonstration that is rendered there.
"""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel

from batchgen.cli import app
from batchgen.job import Input, Job, Sampling
from batchgen.job.file import load_jobs
from batchgen.schema import BENCHMARK_PROMPT, CELL_FIELDS, SOURCE_FIELDS, image_schema, metadata_schema
from tests.test_architecture import ORDER, ROOMS

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]
PAGES += [ROOT / "jobs" / "README.md", ROOT / "infra" / "README.md"]
FOLDERS = "tests|jobs|notebooks|infra|docs|batchgen"
USERS = {"job.yaml", "JOB.yaml", "judge.yaml"}  # files that a reader has
OTHER_PROGRAMS = {"--runtime-env-json", "--working-dir", "--start", "--include"}  # of ray, of jobs/train_demo.py, of hf
OTHER_PROGRAMS |= {"--env-file", "--signal=B:USR1@120"}  # of docker, of Slurm
COMMANDS = typer.main.get_command(app)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The fenced blocks of a page in one language; "" for those without."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def spans(page):
    """What stands in backticks outside of blocks, on one line each."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def shell_lines(page):
    for block in blocks(page, ""):
        for line in block.splitlines():
            try:
                yield shlex.split(line, comments=True)
            except ValueError:  # no command: a drawing, or words of a message
                continue


def batchgen_commands(page):
    """(words after `batchgen`, whether they are a whole command) of every command of batchgen that a page shows."""
    for words in shell_lines(page):
        if words[:1] == ["batchgen"]:
            yield words[1:], True
        elif "--" in words and words[words.index("--") + 1] == "batchgen":
            yield words[words.index("--") + 2 :], True
        elif "jobs/render.py" in words:
            yield ["render", *words[words.index("jobs/render.py") + 1 :]], True
    for span in spans(page):
        if span.startswith("batchgen "):
            yield shlex.split(span)[1:], False


def parse(words, whole):
    """As the command line does, without running anything. Of an inline mention only the options are looked at."""
    command = COMMANDS
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if whole and command is not COMMANDS:
        words = words[: words.index(">")] if ">" in words else words
        command.make_context(command.name, ["1" if re.fullmatch("[A-Z]", word) else word for word in words])
    assert command is not COMMANDS or words[0].startswith("-"), f"there is no command {words[0]}"
    assert {word for word in words if word.startswith("--")} <= options_of(command)


def options_of(command):
    own = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return own.union(*(options_of(inner) for inner in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_commands_of_batchgen(page):
    for words, whole in batchgen_commands(page):
        parse(words, whole)
    for span in spans(page):
        if span.startswith("--"):
            assert span.split()[0] in options_of(COMMANDS) | OTHER_PROGRAMS, span


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_and_scripts_are_there(page):
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    for words in [*shell_lines(page), *map(str.split, spans(page))]:
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, words
        scripts = [word for word in words if word.startswith("jobs/") and word.endswith(".py")]
        if words[:1] == ["python"] and scripts:
            text = (ROOT / scripts[0]).read_text()
            options = [word for word in words if word.startswith("--")] if scripts != ["jobs/render.py"] else []
            assert all(re.search(rf"(?<![\w-]){option}\b", text) for option in options), words


def test_there_is_yaml_and_every_page_begins_with_what_one_types():
    assert sum(len(blocks(page, "yaml")) for page in PAGES) > 10
    for page in [*DOCS, ROOT / "CONTRIBUTING.md"]:
        assert re.match(r"# .+\n\n```", page.read_text()), page


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name_of)
def test_yaml_is_a_job(page, tmp_path):
    """Each block is a job file, or some sections of one."""
    for text in blocks(page, "yaml"):
        missing = {"input": {"path": "prompts.csv"}, "output": {"path": "out/run"}}
        rest = {name: section for name, section in missing.items() if name not in yaml.safe_load(text)}
        (tmp_path / "job.yaml").write_text(text + (yaml.safe_dump(rest) if rest else ""))
        load_jobs(tmp_path / "job.yaml")


def has_key(section, keys):
    """Whether a path of keys leads to a setting of the job file."""
    if not keys:
        return True
    field = section.model_fields.get(keys[0])
    if field is None:
        return False
    kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
    inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return any(has_key(kind, keys[1:]) for kind in inner) if inner else True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_are_settings_of_the_job_file(page):
    for span in spans(page):
        match = re.match(rf"(?:{'|'.join(Job.model_fields)})(?:\.[a-z]\w*)+", span)
        if match and not span.endswith(".yaml"):
            assert has_key(Job, match[0].split(".")), span


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_modules_are_there(page):
    configs = {path.name for path in (ROOT / "jobs" / "configs").iterdir()}
    for text in [*spans(page), *(line for block in blocks(page, "") for line in block.splitlines())]:
        for path in re.findall(rf"(?<![\w/.~-])(?:{FOLDERS})/[\w./-]*", text):
            assert (ROOT / path.rstrip(".")).exists(), path
    for span in spans(page):
        if re.fullmatch(r"[\w-]+\.(yaml|txt)", span):
            assert span in configs | USERS, span
        if match := re.match(r"batchgen((?:\.\w+)+)", span):
            assert is_there(match[0]), span
        if test := re.fullmatch(r"(tests/[\w/.]+)::(\w+)", span):
            assert f"def {test[2]}(" in (ROOT / test[1]).read_text(), span


def is_there(name):
    """A module of batchgen, or something in one."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, last = name.rpartition(".")
    return find_spec(module) is not None and hasattr(import_module(module), last)


def anchors(page):
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_linked_from_readme():
    linked = re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / "README.md").read_text())
    assert sorted(linked) == [name_of(page) for page in DOCS]


def test_readme_is_one_screen():
    assert (ROOT / "README.md").stat().st_size <= 3200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_do_not_refer_to_the_developers_folder(page):
    assert not any(word in page.read_text() for word in ("shared/", "research/", "DESIGN", "HOUSE"))


def cells(page, heading):
    """What stands in backticks in the first column of the table below a heading."""
    section = re.split(r"^#+ ", page.read_text().split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


def has_a_meaning(name):
    """Whether a column of the user's table may be called so, by way of input.columns."""
    try:
        return bool(Input(path="prompts.csv", columns={"theirs": name}))
    except ValueError:
        return False


def test_every_column_is_explained_once_and_no_other():
    own, theirs = cells(ROOT / "docs/output.md", "Columns"), cells(ROOT / "docs/job-file.md", "The table")
    added = [*SOURCE_FIELDS, *CELL_FIELDS, BENCHMARK_PROMPT]
    stored = {*image_schema(added).names, *metadata_schema(added).names}
    assert all(has_a_meaning(name) for name in theirs)
    assert {name for name in stored.union(Sampling.model_fields) if has_a_meaning(name)} <= set(theirs)
    assert len(own) + len(theirs) == len({*own, *theirs})
    assert set(own) == stored - set(theirs)


def test_the_rooms_and_their_order_are_those_of_the_code():
    text = (ROOT / "docs/architecture.md").read_text()
    assert f"```{ORDER}```" in text
    rooms = re.findall(r"^\| `(\w+/?)` \|", text, re.MULTILINE)
    packages = {path.name for path in ROOMS}
    assert sorted(rooms) == sorted(f"{room}/" if room in packages else room for room in ORDER.split())


def test_the_list_of_mistakes_is_that_of_the_tests():
    rows = re.findall(r"^\| (\d+) \|.*\| `([\w/.]+)` \|$", (ROOT / "docs/mistakes.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 73))
    tested = set()
    for path in (ROOT / "tests/mistakes").glob("test_*.py"):
        for numbers in re.findall(r"^def test_((?:\d+_)+)", path.read_text(), re.MULTILINE):
            tested |= {(int(number), name_of(path)) for number in numbers.rstrip("_").split("_")}
    assert {(int(number), path) for number, path in rows} == tested


def test_codes_of_mistakes_are_in_the_code():
    code = "\n".join(path.read_text() for path in (ROOT / "batchgen").rglob("*.py"))
    for span in spans(ROOT / "docs/mistakes.md"):
        if re.fullmatch(r"[A-Z]+\d?(_[A-Z0-9]+)+", span) or span == "DAMAGED":
            assert f'"{span}"' in code, span
