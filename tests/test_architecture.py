"""The rules of the house, as tests: imports go one way, heavy packages stay in their rooms, files stay small."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "batchgen"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# A module may import from the lines above its own, and from its own line.
LAYERS = [
    {"batchgen", "errors", "models", "models.presets", "schema"},
    {"config.section"},
    {"config.model"},
    {"config.sampling"},
    {"config.job"},
    {"config", "jobfile", "identity", "occurrences", "watchdog"},
    {"environment", "backends", "models.renderer", "buckets", "images"},
    {"models.headers", "models.layouts"},
    {"models.shapes"},
    {"models.weights"},
    {"footprint"},
    {"storage", "tokens", "demo", "demo.world"},
    {"demo.oracle", "models.mirror"},
    {"manifest", "manifest.columns", "manifest.formats"},
    {"manifest.parquet", "manifest.jsonl", "manifest.delimited"},
    {"manifest.lines"},
    {"manifest.sources", "manifest.values", "manifest.rows"},
    {"models.content"},
    {"models.files", "models.hub", "models.architecture", "models.singlefile"},
    {"models.lora", "manifest.expansion", "manifest.naming", "manifest.expand"},
    {"models.packages", "models.quantize", "models.placement"},
    {"models.original"},
    {"models.fake", "models.device", "models.load", "models.text", "models.sigmas"},
    {"models.adapters", "models.samplers"},
    {"models.sd3"},
    {"models.refine"},
    {"batches", "shard", "init"},
    {"comfyui", "comfyui.graph", "comfyui.percent", "comfyui.emphasis"},
    {"comfyui.drawing", "comfyui.findings"},
    {"comfyui.workflow", "comfyui.places", "comfyui.prompts", "comfyui.passes", "comfyui.way"},
    {"comfyui.weights"},
    {"comfyui.second"},
    {"comfyui.image"},
    {"comfyui.reading"},
    {"comfyui.writing"},
    {"comfyui.importing"},
    {"run"},
    {"extension"},
    {"sharding", "preflight"},
    {"sample", "attempts", "budget", "planfiles", "card", "contact_sheet", "status", "progress"},
    {"cluster", "worker", "finalize", "plan", "show", "preview"},
    {"rendering", "retry"},
    {"contact_page", "measured", "fitting"},
    {"estimate"},
    {"sheets"},
    {"doctor", "session", "results"},
    {"report"},
    {"cli"},
    {"__main__"},
]
UPWARDS = {
    ("models.renderer", "batchgen.models.fake"),  # load_renderer is the factory
    ("models.renderer", "batchgen.models.sd3"),
    ("models.renderer", "batchgen.models.fake.FakeRenderer"),
    ("models.renderer", "batchgen.models.sd3.SD3Renderer"),
    ("models.renderer", "batchgen.models.refine"),
    ("models.renderer", "batchgen.models.refine.TwoPassRenderer"),
    ("card", "batchgen.finalize"),  # for type hints
    ("batchgen", "batchgen.results"),  # batchgen.open, which imports it when it is called
    ("batchgen", "batchgen.results.Results"),
    ("batchgen", "batchgen.session"),  # batchgen.render, the same
    ("batchgen", "batchgen.jobfile"),
    ("batchgen", "batchgen.jobfile.job_from"),
    ("batchgen", "batchgen.jobfile.load_job"),
}
MAY_IMPORT_RAY = {"cluster", "plan", "rendering"}
HEAVY = ("torch", "diffusers", "transformers", "ray", "accelerate")


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "batchgen"


def imports_of(path):
    """(module, at the top of the file?) of every import, `from batchgen import x` being batchgen.x."""
    tree = ast.parse(path.read_text())
    top = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node in top
            yield from ((f"{node.module}.{alias.name}", node in top) for alias in node.names)


def test_every_module_has_a_layer():
    assert {name_of(path) for path in MODULES} == set().union(*LAYERS)


def layer_of(module):
    return next((number for number, layer in enumerate(LAYERS) if module in layer), None)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path):
    own = layer_of(name_of(path))
    for module, _ in imports_of(path):
        layer = layer_of(module.removeprefix("batchgen.")) if module.startswith("batchgen.") else None
        if layer is not None and (name_of(path), module) not in UPWARDS:
            assert layer <= own, f"{name_of(path)} imports {module}, which lies above it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_stay_in_their_rooms(path):
    name = name_of(path)
    found = {module.split(".")[0] for module, _ in imports_of(path)}
    assert "ray" not in found or name in MAY_IMPORT_RAY
    assert not found & {"torch", "diffusers", "accelerate"} or name.startswith("models.")
    assert "transformers" not in found or name.startswith("models.") or name == "tokens"


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
            assert not any(word in text for word in ("shared/", "research/", "DESIGN")), path


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
        "from batchgen.jobfile import load_job\nfrom batchgen.errors import Refused\n"
        "try: load_job('nowhere.yaml')\nexcept Refused: pass"
    )
    assert loaded_by(code) == []


def test_planning_loads_no_torch_and_one_file_no_ray():
    code = (
        "import tempfile\nfrom batchgen.demo import demo_job\nfrom batchgen import plan\n"
        "from batchgen.preflight import prepare\n"
        "plan.make(prepare(demo_job(tempfile.mkdtemp() + '/run')))"
    )
    assert loaded_by(code) == ["transformers"]


def test_readme_has_every_module_in_its_table():
    table = (ROOT / "README.md").read_text().split("## Where things are")[1].split("## Limits")[0]
    named = set(re.findall(r"`([\w/]+)`", table))
    for module in set().union(*LAYERS) - {"batchgen", "config", "models", "manifest", "demo", "comfyui", "__main__"}:
        assert module.replace(".", "/") in named or module.rpartition(".")[2] in named, module


def test_readme_names_only_commands_and_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"`((?:tests|jobs|notebooks|infra)/[\w/.]+)(?:::\w+)?`", text):
        assert (ROOT / path).exists(), path
    for test in re.findall(r"`(tests/[\w/.]+)::(\w+)`", text):
        assert f"def {test[1]}(" in (ROOT / test[0]).read_text()
