"""A PNG that ComfyUI saved holds its workflow, in API format and as it was drawn."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from batchgen.comfyui import workflow
from batchgen.errors import Refused


@pytest.fixture
def picture(tmp_path):
    """picture(prompt=..., workflow=...) → the path of a PNG with these texts."""

    def write(**texts):
        info = PngInfo()
        for name, text in texts.items():
            info.add_text(name, text if isinstance(text, str) else json.dumps(text))
        Image.new("RGB", (8, 8)).save(tmp_path / "picture.png", pnginfo=info)
        return tmp_path / "picture.png"

    return write


def test_a_picture_is_as_good_as_its_workflow(picture, simple, tmp_path):
    (tmp_path / "workflow.json").write_text(json.dumps(simple()))
    plain = workflow.load(tmp_path / "workflow.json")
    for texts in ({"prompt": simple()}, {"prompt": simple(), "workflow": {"nodes": []}}, {"workflow": simple()}):
        found = workflow.load(picture(**texts))
        assert {id: str(node) for id, node in found.nodes.items()} == {id: str(one) for id, one in plain.nodes.items()}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({}, "is a PNG without a workflow. ComfyUI writes one into what it saves"),
        ({"parameters": "a cat, Steps: 20"}, "is a PNG without a workflow"),
        ({"prompt": "{"}, "is not JSON"),
        ({"prompt": "[]"}, "is not a ComfyUI workflow"),
    ],
)
def test_pictures_without_one(picture, texts, says):
    with pytest.raises(Refused, match=r"picture\.png") as error:
        workflow.load(picture(**texts))
    assert says in str(error.value)


@pytest.mark.parametrize("cut", [8, 20, 40])
def test_half_a_picture(picture, simple, cut):
    path = picture(prompt=simple())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Refused):
        workflow.load(path)
