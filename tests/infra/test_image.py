"""infra/Dockerfile, line by line; its entry point, run; and one image in all files."""

import os
import re
import subprocess

import pytest
import typer

import batchgen
from batchgen.cli import app
from tests.infra.manifests import INFRA, RAYJOBS, manifest, pinned, pods

COMMANDS = set(typer.main.get_command(app).commands)
ENTRYPOINT = INFRA / "entrypoint.sh"


@pytest.fixture(scope="module")
def instructions():
    """(name, arguments) of each instruction, continued lines joined, comments left out."""
    lines = [line for line in (INFRA / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in whole.splitlines() if line]


def of(instructions, name):
    return [arguments for one, arguments in instructions if one == name]


def test_what_it_is_built_on_is_pinned_and_is_cudas_runtime_for_this_torch(instructions):
    images = [one.split()[0] for one in of(instructions, "FROM")]
    assert all(re.fullmatch(r"\S+:\d+\.\d+\.\d+\S*", image) for image in images)
    assert images[-1].startswith("nvidia/cuda:13.0.")
    assert pinned("torch").startswith("2.13."), "another torch is built for another CUDA: look, then change both"


def test_packages_are_pinned_and_come_before_the_code(instructions):
    runs = [position for position, (name, _) in enumerate(instructions) if name == "RUN"]
    installs = [position for position in runs if "pip install" in instructions[position][1]]
    packages, code = (instructions[position][1] for position in installs)
    assert "--constraint constraints.txt --requirements pyproject.toml" in packages
    assert "python 3.11" in packages
    assert "--no-deps" in code
    before = [one for _, one in instructions[: installs[0]]]
    assert not any(one.startswith("batchgen ") for one in before), "a change of the code would install torch anew"
    assert "batchgen batchgen" in [one for _, one in instructions[installs[0] : installs[1]]]


def test_boto3_is_pinned_with_its_botocore():
    assert pinned("boto3") == pinned("botocore")


def test_it_runs_as_nobody_in_particular(instructions):
    names = [name for name, _ in instructions]
    assert of(instructions, "USER") == ["1000:1000"]
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    assert not {"ARG", "ADD", "VOLUME", "HEALTHCHECK"} & set(names), "no ARG: it would stay in the image's history"
    (entry,) = of(instructions, "ENTRYPOINT")
    assert entry == '["/usr/local/bin/entrypoint.sh"]'


def test_only_what_is_copied_is_sent(instructions):
    sent = [line.strip() for line in (INFRA.parent / ".dockerignore").read_text().splitlines() if line[:1] not in "#"]
    assert sent[0] == "*"
    copied = [one for one in of(instructions, "COPY") if "--from=" not in one]
    sources = {word for one in copied for word in one.split()[:-1] if not word.startswith("--")}
    assert sources == {line[1:] for line in sent if line.startswith("!")}
    assert all((INFRA.parent / source).exists() for source in sources)


@pytest.fixture
def programs(tmp_path):
    """A PATH where batchgen, ray and python say their name and what they were given."""
    for name in ("batchgen", "ray", "python"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename "$0")" "$@"\n')
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["render", "a job.yaml", "--strict"], "batchgen render a job.yaml --strict"),
        (["--help"], "batchgen --help"),
        ([], "batchgen"),
        (["ray", "start", "--head"], "ray start --head"),
        (["bash", "-c", "echo $0", "it"], "bash"),
        (["/bin/echo", "found"], "found"),
        (["python", "jobs/render.py"], "python jobs/render.py"),
    ],
)
def test_the_entry_point(programs, given, run):
    done = subprocess.run([ENTRYPOINT, *given], env=programs, capture_output=True, text=True, timeout=10)
    assert done.stdout.strip() == (run if given[:1] != ["bash"] else "it")
    assert done.returncode == 0


def test_no_command_of_batchgen_is_taken_for_a_program():
    programs = re.search(r"^ *(bash .*) \| /\*\)", ENTRYPOINT.read_text(), re.MULTILINE)[1]
    assert not set(programs.split(" | ")) & COMMANDS


def test_all_files_name_one_image_and_it_is_of_this_version(instructions):
    images = {container["image"] for name in RAYJOBS for pod in pods(manifest(f"kuberay/{name}")).values()
              for container in pod["spec"]["containers"]}  # fmt: skip
    images.add(manifest("aws/cluster.yaml")["docker"]["image"])
    (image,) = images
    assert image.endswith(f"/batchgen:{batchgen.__version__}")
    for page in ("Dockerfile", "README.md"):
        named = set(re.findall(r"registry\.example\.com/\S+:[\w.]*\w", (INFRA / page).read_text()))
        assert named <= {image}
        assert named
