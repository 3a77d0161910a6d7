"""What a pipeline class of the installed diffusers takes, read from its source text.

The planner must know this and must not import diffusers, which would bring torch along: so the source is parsed, never
run. Knows Python's grammar and where diffusers keeps its classes; judges nothing (`pipelines.py` does).
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import metadata, util
from pathlib import Path


@cache
def parameters_of(name: str) -> frozenset[str]:
    """Names of the parameters of a pipeline's __call__, inherited ones too; empty where there is no such class."""
    found = _class(name)
    if found is None:
        return frozenset()
    for member in found.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__call__":
            arguments = [*member.args.posonlyargs, *member.args.args, *member.args.kwonlyargs]
            return frozenset(argument.arg for argument in arguments) - {"self"}
    inherited = [parameters_of(base.id) for base in found.bases if isinstance(base, ast.Name) and base.id != name]
    return next((parameters for parameters in inherited if parameters), frozenset())


@cache
def is_exported(name: str) -> bool:
    """Whether `diffusers.NAME` is there. Its __init__ names all that it imports on demand as strings."""
    return name.isidentifier() and f'"{name}"' in _root().joinpath("__init__.py").read_text("utf-8")


@cache
def text_to_image() -> frozenset[str]:
    """The classes that AutoPipelineForText2Image of the installed diffusers chooses from."""
    source = _root().joinpath("pipelines/auto_pipeline.py").read_text("utf-8")
    start = source.index("AUTO_TEXT2IMAGE_PIPELINES_MAPPING = ")
    return frozenset(re.findall(r'^\s+\("[^"]+", (\w+)\),$', source[start : source.index("\n)", start)], re.MULTILINE))


def is_own_module(library: str) -> bool:
    """Whether model_index.json means a folder of diffusers' own pipelines: ["stable_diffusion", "SafetyChecker"]."""
    return library.isidentifier() and _root().joinpath("pipelines", library).is_dir()


def version() -> str:
    return metadata.version("diffusers")


@cache
def _class(name: str) -> ast.ClassDef | None:
    if not name.isidentifier():
        return None
    for path in sorted(_root().joinpath("pipelines").rglob("*.py")):
        text = path.read_text("utf-8")
        if re.search(rf"^class {name}\b", text, re.MULTILINE):
            nodes = ast.parse(text).body
            return next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name)
    return None


@cache
def _root() -> Path:
    """The folder of the installed diffusers, which finding it does not import."""
    spec = util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("diffusers is not installed: pip install diffusers")
    return Path(spec.origin).parent
