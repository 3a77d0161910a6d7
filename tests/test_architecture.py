"""The rules of the house, as tests: imports go one way, heavy packages stay in their rooms, files stay small."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "batchgen"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

ORDER = """
columns words
errors schema
storage job
run cluster comfyui demo
weights manifest
engines rows
plan rendering finalize
cost look
evaluate
export
view
session
report
cli
"""
FLOORS = {room: floor for floor, line in enumerate(ORDER.strip().splitlines()) for room in line.split()}
MAY_IMPORT_RAY = {"cluster.connection", "plan.graph", "rendering.graph", "evaluate.graph", "export.graph"}
WITH_TORCH = ("engines.", "evaluate.scorers.", "look.training_data")
HEAVY = ("torch", "diffusers", "transformers", "ray", "accelerate")


def name_of(path):
    """'run.shard' for batchgen/run/shard.py, 'run' for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in MODULES}
INSIDE = [path for path in MODULES if name_of(path) not in ("", "__main__")]  # all but the face and the door
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))


def packages_of(path):
    """The packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def imports_of(path):
    """Modules of batchgen that a file imports, wherever in it; `from batchgen.run import layout` is run.layout."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module == "batchgen" or node.module.startswith("batchgen.")):
            module = node.module.removeprefix("batchgen").removeprefix(".")
            for alias in node.names:
                whole = f"{module}.{alias.name}".lstrip(".")
                yield whole if whole in NAMES else module


@pytest.mark.parametrize("path", INSIDE, ids=name_of)
def test_imports_go_down(path):
    own = name_of(path).split(".")[0]
    for module in imports_of(path):
        room = module.split(".")[0]
        assert room in ("", own) or FLOORS[room] < FLOORS[own], f"{name_of(path)} imports {module}"


def test_no_file_imports_itself_by_way_of_others():
    TopologicalSorter({name_of(path): set(imports_of(path)) - {name_of(path)} for path in INSIDE}).prepare()


def test_every_room_has_a_floor():
    assert {name_of(path).split(".")[0] for path in INSIDE} == set(FLOORS)


def test_no_module_goes_by_another_name():
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "batchgen":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}".removeprefix("batchgen.")
                    assert whole not in NAMES or alias.asname is None, f"{path}: {alias.name} as {alias.asname}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_stay_in_their_rooms(path):
    name = name_of(path)
    found = set(packages_of(path))
    assert "ray" not in found or name in MAY_IMPORT_RAY
    assert not found & {"diffusers", "accelerate"} or name.startswith("engines.")
    assert "torch" not in found or name.startswith(WITH_TORCH)
    assert "transformers" not in found or name.startswith(WITH_TORCH[:2]) or name == "rows.tokens"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_small_and_say_what_they_are(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_no_rooms_for_odds_and_ends():
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
    assert not banned & {path.stem for path in MODULES}


def test_no_way_to_run_code_from_weights_or_files():
    banned = ("trust_remote_code=True", "custom_pipeline=", " eval(", "shell=True", "pickle.load")
    for path in [*MODULES, *(ROOT / "jobs").rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("#")[0]
            assert not any(word in code for word in banned), f"{path}:{number}"
            assert "torch.load(" not in code or "weights_only=True" in code, f"{path}:{number}"


def test_the_product_does_not_refer_to_the_developers_folder():
    for path in [*MODULES, *(ROOT / "jobs").rglob("*"), ROOT / "README.md"]:
        if path.suffix in {".py", ".md", ".yaml"}:
            text = path.read_text()
            assert not re.search(r"(?<![\w-])(?:shared|research)/|DESIGN", text), path


def loaded_by(code):
    """Which heavy packages a statement leaves in sys.modules, in a process of its own."""
    script = f"{code}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_importing_batchgen_loads_nothing_heavy():
    assert loaded_by("import batchgen") == []


def test_help_and_config_errors_load_nothing_heavy():
    code = (
        "import sys; sys.argv = ['batchgen', '--help']\n"
        "from batchgen.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "from batchgen.job.file import load_job\nfrom batchgen.errors import Refused\n"
        "try: load_job('nowhere.yaml')\nexcept Refused: pass"
    )
    assert loaded_by(code) == []


def test_planning_loads_no_torch_and_one_file_no_ray():
    code = (
        "import tempfile\nfrom batchgen.demo import demo_job\nfrom batchgen.plan.graph import make_plan\n"
        "from batchgen.plan.preflight import prepare\n"
        "make_plan(prepare(demo_job(tempfile.mkdtemp() + '/run')))"
    )
    assert loaded_by(code) == ["transformers"]
