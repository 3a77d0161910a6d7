"""The UI format: what the page of ComfyUI does before it runs a workflow is done here."""

from __future__ import annotations

import json

import pytest

from batchgen.comfyui.graph import Link
from batchgen.comfyui.workflow import graph
from tests.comfyui.conftest import WORKFLOWS


def drawn(id, kind, inputs=(), outputs=(), values=None, mode=0):
    """inputs: (name, type, link); outputs: types."""
    return {
        "id": id,
        "type": kind,
        "mode": mode,
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": type_, "type": type_} for type_ in outputs],
        "widgets_values": values or [],
    }


def read(nodes, links):
    return graph({"nodes": nodes, "links": links})


CHECKPOINT = drawn(1, "CheckpointLoaderSimple", outputs=["MODEL", "CLIP", "VAE"], values=["a.safetensors"])


def test_widgets_have_names():
    nodes = read([drawn(3, "KSampler", values=[7, "randomize", 28, 4.5, "euler", "normal", 0.5])], [])
    assert nodes.nodes["3"].inputs == {
        "seed": 7,
        "control_after_generate": "randomize",
        "steps": 28,
        "cfg": 4.5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 0.5,
    }
    without = read([drawn(3, "KSampler", values=[7, 28, 4.5, "euler", "normal", 0.5])], []).nodes["3"].inputs
    assert (without["steps"], without["denoise"]) == (28, 0.5)
    by_name = drawn(4, "KSampler") | {"widgets_values": {"seed": 9, "steps": 3}}
    assert read([by_name], []).nodes["4"].inputs == {"seed": 9, "steps": 3}


def test_reroutes_and_primitives_vanish():
    nodes = [
        CHECKPOINT,
        drawn(2, "Reroute", [("", "*", 10)], ["*"]),
        drawn(3, "Reroute", [("", "*", 11)], ["*"]),
        drawn(4, "PrimitiveNode", outputs=["INT"], values=[42, "fixed"]),
        drawn(5, "KSampler", [("model", "MODEL", 12), ("seed", "INT", 13)], values=[1, "fixed", 28]),
        drawn(6, "Note", values=["hello"]),
    ]
    links = [[10, 1, 0, 2, 0, "MODEL"], [11, 2, 0, 3, 0, "*"], [12, 3, 0, 5, 0, "MODEL"], [13, 4, 0, 5, 1, "INT"]]
    drawing = read(nodes, links)
    assert sorted(drawing.nodes) == ["1", "5"]
    assert drawing.nodes["5"].inputs["model"] == Link("1", 0)
    assert (drawing.nodes["5"].inputs["seed"], drawing.nodes["5"].inputs["steps"]) == (42, 28)


def test_links_may_be_objects():
    links = [{"id": 12, "origin_id": 1, "origin_slot": 0, "target_id": 5, "target_slot": 0, "type": "MODEL"}, None]
    drawing = read([CHECKPOINT, drawn(5, "KSampler", [("model", "MODEL", 12)])], links)
    assert drawing.nodes["5"].inputs == {"model": Link("1", 0)}


def test_a_bypassed_node_hands_on_what_has_its_type():
    """A LoRA hands the model on at its first output and the encoders at its second."""
    lora = drawn(2, "LoraLoader", [("model", "MODEL", 10), ("clip", "CLIP", 11)], ["MODEL", "CLIP"], mode=4)
    text = drawn(3, "CLIPTextEncode", [("clip", "CLIP", 12)], values=["a cat"])
    sampler = drawn(5, "KSampler", [("model", "MODEL", 13)])
    links = [[10, 1, 0, 2, 0, "MODEL"], [11, 1, 1, 2, 1, "CLIP"], [12, 2, 1, 3, 0, "CLIP"], [13, 2, 0, 5, 0, "MODEL"]]
    drawing = read([CHECKPOINT, lora, text, sampler], links)
    assert sorted(drawing.nodes) == ["1", "3", "5"]
    assert drawing.nodes["3"].inputs["clip"] == Link("1", 1)
    assert drawing.nodes["5"].inputs["model"] == Link("1", 0)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (
            drawn(2, "ModelSamplingSD3", [("model", "MODEL", 10)], ["MODEL"], [3.0], mode=2),
            "comes from node 2, which is muted",
        ),
        (drawn(2, "LoadImage", [], ["MODEL"], mode=4), "comes from node 2, which hands nothing on"),
        (drawn(2, "Reroute", [("", "*", 13)], ["*"]), "comes from a circle of links"),
        (drawn(9, "Note"), "is linked to node 2, which is not in the workflow"),
    ],
)
def test_what_comes_from_nowhere_says_why(node, why):
    links = [[10, 1, 0, 2, 0, "MODEL"], [13, 2, 0, 5, 0, "MODEL"]]
    drawing = read([CHECKPOINT, node, drawn(5, "KSampler", [("model", "MODEL", 13)])], links)
    assert drawing.nodes["5"].absent == {"model": why}
    assert "model" not in drawing.nodes["5"].inputs


def test_both_formats_of_a_workflow_say_the_same(imported):
    """The API export of the page leaves out what is muted, bypassed and only drawn; links and values are the same."""
    content = json.loads((WORKFLOWS / "medium_slg.json").read_text())
    nodes = graph(content).nodes
    running = imported("medium_slg.json")
    api = {
        id: {
            "class_type": node.kind,
            "inputs": {k: [v.node, v.slot] if isinstance(v, Link) else v for k, v in node.inputs.items()},
            "_meta": {"title": node.title or node.kind},
        }
        for id, node in nodes.items()
    }
    assert "20" not in api
    again = imported(api)
    assert (again.sections, again.rows, again.losses) == (running.sections, running.rows, running.losses)
    assert imported({"prompt": api, "client_id": "x"}).sections == running.sections
