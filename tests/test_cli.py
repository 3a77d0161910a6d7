"""The command line: mistakes cost a message and exit code 2, nothing else; plan shows and writes nothing."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from batchgen.cli import Interrupted, app
from batchgen.errors import Infrastructure
from tests.job_files import job_file

PARTI = Path(__file__).parent / "samples" / "partiprompts.tsv"


@pytest.fixture
def job(tmp_path):
    """job(rows, **sections) writes a manifest and a job file and returns its path."""

    return lambda rows=({"prompt": "a cat"},), **sections: job_file(tmp_path, rows, **sections)


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def refused(path, *expected, command="render"):
    code, output = run(command, path)
    assert code == 2
    assert "Traceback" not in output
    for text in expected:
        assert text in output, output
    assert not (Path(path).parent / "run").exists()


@pytest.mark.parametrize("command", ["plan", "render"])
def test_an_unknown_key_suggests_the_nearest(job, command):
    refused(job(sampling={"heigth": 64}), "sampling.heigth: unknown key. Did you mean height?", command=command)


def test_all_mistakes_of_a_job_file_at_once(job):
    path = job(sampling={"height": "tall", "guidance_scale": -1, "num_inference_steps": 0}, outputs={})
    refused(path, "4 problems", "sampling.height", "sampling.guidance_scale", "sampling.num_inference_steps", "outputs")


def test_a_missing_job_file():
    assert run("render", "nowhere.yaml") == (2, "nowhere.yaml: cannot be read (No such file or directory).\n")


def test_a_job_file_that_is_no_yaml(tmp_path):
    (tmp_path / "job.yaml").write_text("input: {path: [}")
    refused(str(tmp_path / "job.yaml"), "is not YAML")


def test_a_missing_prompt_column_suggests_one(job):
    refused(job([{"caption": "a cat"}]), "prompt", "columns: {caption: prompt}")


def test_an_empty_output_directory_survives_a_refusal(job, tmp_path):
    (tmp_path / "run").mkdir()
    assert run("render", job([{"prompt": None}]))[0] == 2
    assert list((tmp_path / "run").iterdir()) == []


def test_relative_output_in_a_ray_job_is_refused(job, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    refused(job(output={"path": "out/run"}), "is relative, and a Ray job's directory is removed with the job")


def test_output_inside_the_prompts_is_refused(job, tmp_path):
    """It would be read as prompts when the run is resumed; and prompts inside the output make no sense either."""
    for path in (str(tmp_path), f"{tmp_path}/**/*.jsonl"):
        refused(job(input={"path": path}), "lies inside input.path")
    assert run("plan", job(input={"path": f"{tmp_path}/*.jsonl"}))[0] == 0
    (tmp_path / "run" / "in").mkdir(parents=True)
    code, output = run("render", job(input={"path": str(tmp_path / "run" / "in")}))
    assert (code, "lies inside output.path" in output) == (2, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("output.path", '"a\\0b"'), ("sampling.negative_prompt", '"\\ud800"'), ("sampling.seed", "2023-99-99")],
)
def test_odd_values_are_mistakes_not_crashes(job, key, value):
    code, output = run("plan", job(), "--set", f"{key}={value}")
    assert (code, "Traceback" in output) == (2, False)


def test_a_cluster_that_does_not_answer_is_said_at_once(job, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    code, output = run("render", job())
    assert (code, "No Ray cluster answers at 127.0.0.1:9" in output) == (5, True)


def test_skip_layers_that_the_model_does_not_have(job):
    refused(job(sampling={"skip_guidance_layers": [99]}), "fake has layers 0 to 3")
    refused(job(sampling={"skip_layer_guidance_start": 0.5, "skip_layer_guidance_stop": 0.2}), "is larger than")


def test_set_overrides_any_key(job):
    code, output = run("plan", job(), "--set", "sampling.num_images_per_prompt=7")
    assert (code, "7 images of 1 prompts" in output) == (0, True)
    code, output = run("plan", job(), "--set", "sampling.stepps=7")
    assert (code, "stepps: unknown key" in output) == (2, True)
    assert run("plan", job(), "--set", "nonsense")[0] == 2


def test_plan_shows_and_writes_nothing(job, tmp_path):
    rows = [{"prompt": "a cat " * 40}, {"prompt": "b", "height": 100, "width": 60}]
    code, output = run("plan", job(rows, cluster={"price_per_gpu_hour": 2.0}))
    assert code == 0
    for text in (
        "2 images of 2 prompts",
        "64x64 steps=4",
        "longer than CLIP-L reads",
        "no multiple of 16",
        "TFLOP",
        "at 2 per",
    ):
        assert text in output, output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "prompts.jsonl"]


def test_status_and_doctor_of_no_run(tmp_path):
    for command in ("status", "doctor"):
        code, output = run(command, str(tmp_path / "nowhere"))
        assert (code, "holds no batchgen run" in output) == (2, True)


def test_every_command_has_help():
    for command in ("plan", "render", "status", "doctor", "demo"):
        code, output = run(command, "--help")
        assert (code, "Usage" in output) == (0, True)


def test_the_examples_of_help_are_commands():
    """Each is parsed as if it were typed; none is run."""
    commands = dict(commands_of(typer.main.get_command(app)))
    assert ("import", "comfyui") in commands
    for names, command in commands.items():
        heading, *examples = command.epilog.split("\n\n")
        assert (heading, len(examples) > 0) == ("Examples:", True)
        for example in examples:
            program, *words = shlex.split(re.sub(r" > [\w.]+$", "", example))
            assert (program, *words[: len(names)]) == ("batchgen", *names)
            command.make_context(names[-1], words[len(names) :])


def commands_of(group, names=()):
    """(names, command) of all commands, those of groups too, and of the groups."""
    for name, command in group.commands.items():
        yield (*names, name), command
        if hasattr(command, "commands"):
            yield from commands_of(command, (*names, name))


def test_completion_can_be_installed():
    code, output = run("--help")
    assert (code, "--install-completion" in output) == (0, True)


def test_mistakes_start_no_ray_and_load_no_torch(job, tmp_path):
    """In a process of its own, which then says what it had loaded when it ended."""
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('loaded:', [n for n in ('ray', 'torch') if n in sys.modules]))\n"
        f"sys.argv = ['batchgen', 'render', {job([{'prompt': None}])!r}]\n"
        "from batchgen.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_a_table_like_partiprompts_plans_by_column_mapping(job, tmp_path):
    header, *lines = PARTI.read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=False)) for line in lines]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "parti.parquet")
    path = job(
        input={"path": str(tmp_path / "parti.parquet"), "columns": {"Prompt": "prompt"}}, model={"preset": "demo"}
    )
    code, output = run("plan", path)
    assert code == 0, output
    assert "12 images of 12 prompts" in output


def test_an_overflow_that_is_refused_is_one_problem_a_prompt(job):
    rows = [{"prompt": "a cat " * 60, "num_images_per_prompt": 4}, {"prompt": "a dog " * 60}]
    path = job(rows, errors={"on_overflow": {"clip": "refuse"}}, sweep={"guidance_scale": [2.0, 3.0]})
    refused(path, "2 problems", "prompts.jsonl, line 1", "prompts.jsonl, line 2", "errors.on_overflow")


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (Interrupted, 143)])
@pytest.mark.parametrize("after", [RuntimeError("release unlocked lock"), Infrastructure("Ray ended the work")])
def test_an_interruption_in_the_middle_of_a_wait_is_one(job, monkeypatch, raised, code, after):
    """CPython's own locks then complain, and so does whoever was waited for."""

    def render(*_):
        try:
            raise raised
        finally:
            raise after

    monkeypatch.setattr("batchgen.session.render", render)
    ended, said = run("render", job())
    assert (ended, "Run the same command again to continue." in said) == (code, True)
    assert str(after) not in said


def test_the_version():
    import batchgen

    assert run("--version") == (0, f"batchgen {batchgen.__version__}\n")


@pytest.mark.parametrize(
    ("place", "says"),
    [("file.txt/run", "cannot hold the output."), ("/proc/run", "cannot hold the output."), ("file.txt", "file.txt")],
)
def test_plan_tries_the_output_place(job, tmp_path, place, says):
    (tmp_path / "file.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    path = job(output={"path": place if place.startswith("/") else str(tmp_path / place)})
    code, output = run("plan", path)
    assert (code, says in output) == (2, True), output
    assert {*before, Path(path), tmp_path / "prompts.jsonl"} == set(tmp_path.rglob("*"))


def test_plan_leaves_nothing_where_it_tried(job, tmp_path):
    assert run("plan", job(output={"path": str(tmp_path / "deep/er/run")}))[0] == 0
    assert not (tmp_path / "deep").exists()


def test_two_small_files_are_planned_without_ray(job, tmp_path, monkeypatch):
    monkeypatch.setattr("batchgen.plan.graph.expanded_on_ray", None)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"in/{name}.jsonl").write_text(json.dumps({"prompt": name}) + "\n")
    (tmp_path / "in/c.jsonl").write_text('{"prompt": ""}\n')
    code, output = run("plan", job(input={"path": str(tmp_path / "in")}))
    assert (code, "c.jsonl, line 1" in output) == (2, True)
    (tmp_path / "in/c.jsonl").unlink()
    code, output = run("plan", job(input={"path": str(tmp_path / "in")}))
    assert (code, "2 images of 2 prompts" in output) == (0, True)
