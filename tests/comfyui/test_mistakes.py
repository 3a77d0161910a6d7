"""Whatever a file holds: one message that says what to do, exit code 2, nothing written, no file of it opened."""

from __future__ import annotations

import builtins
import io
import json

import pytest

from batchgen.comfyui.workflow import MAX_BYTES
from tests.comfyui.conftest import WORKFLOWS, command


@pytest.mark.parametrize(
    "content",
    ["", "not json", '{"a": ', b"\xff\xfe\x00", "[" * 100_000, '{"3": ' + "1" * 5000 + "}"],
    ids=["empty", "text", "cut", "bytes", "deep", "digits"],
)
def test_no_json(refused, content):
    refused(content, "workflow.json: is not JSON. In ComfyUI, choose Workflow > Export (API).")


@pytest.mark.parametrize("content", [[], {}, 3, None, "text", {"a": 1}, {"nodes": 3}, {"prompt": {}}, [{"id": 1}]])
def test_json_that_is_no_workflow(refused, content):
    refused(json.dumps(content), "is not a ComfyUI workflow", "Export (API)")


def test_no_file(folder):
    code, output = command("import", "comfyui", folder / "nowhere.json")
    assert (code, "cannot be read (No such file or directory)" in output) == (2, True)
    code, output = command("import", "comfyui", folder)
    assert (code, "cannot be read (Is a directory)" in output) == (2, True)


def test_a_huge_file_is_not_read(folder, monkeypatch):
    path = folder / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    code, output = command("import", "comfyui", path)
    assert code == 2
    assert "16,777,217 bytes, which no workflow has" in " ".join(output.split())


def test_links_in_a_circle(refused, simple):
    nodes = simple(node_8={"class_type": "LatentUpscaleBy", "scale_by": 2.0, "samples": ["5", 0]})
    nodes["5"]["inputs"]["latent_image"] = ["8", 0]
    refused(nodes, "its links run in a circle: node 5 (KSampler) from node 8 (LatentUpscaleBy) from node 5 (KSampler)")


def test_links_to_nowhere(refused, simple):
    refused(
        simple(node_5={"model": ["99", 0], "positive": ["2", "x"]}),
        "2 problems",
        "node 5 (KSampler): its input model is linked to node 99, which is not in the workflow. Connect it",
        "node 5 (KSampler): its input positive is linked to ['2', 'x'], which is no output",
    )


def test_an_input_that_is_not_connected(refused, simple):
    nodes = simple()
    del nodes["5"]["inputs"]["latent_image"]
    refused(nodes, "node 5 (KSampler): its input latent_image is not connected. Connect it, and export again.")


def test_values_of_wrong_types_all_at_once(refused, simple):
    nodes = simple(node_5={"steps": "many", "cfg": None, "seed": 1.5}, node_4={"width": [1, 2, 3]}, node_2={"text": 5})
    refused(
        nodes,
        "4 problems",
        "node 5 (KSampler): steps is many, not a number",
        "node 5 (KSampler): seed is 1.5, not a whole number",
        "node 4 (EmptySD3LatentImage): width is [1, 2, 3], not a number",
        "node 2 (CLIPTextEncode): text is 5, not a text",
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "true"])
def test_numbers_that_are_none(refused, simple, value):
    text = json.dumps(simple(node_5={"cfg": "HERE"})).replace('"HERE"', value)
    refused(text, "cfg is", "not a number")


def test_several_samplers_that_one_run_cannot_hold(refused, simple):
    nodes = simple(
        node_8={**simple()["5"]["inputs"], "class_type": "KSampler", "sampler_name": "dpmpp_2m"},
        node_9={"class_type": "VAEDecode", "samples": ["8", 0], "vae": ["1", 2]},
        node_10={"class_type": "SaveImage", "images": ["9", 0]},
    )
    refused(
        nodes,
        "node 7 (SaveImage) and node 10 (SaveImage) differ in sampling.sampler (euler and dpmpp_2m)",
        "Mute one (Ctrl+M), and export again.",
    )


def test_no_image_is_made(refused, simple):
    refused({"1": simple()["1"]}, "makes no image")
    refused(
        {
            "1": {"class_type": "LoadImage", "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        },
        "node 2 (SaveImage): no sampler leads to it that batchgen reads (KSampler, ",
    )


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../x.safetensors", "C:\\x.safetensors", "https://x/y.safetensors", "", "..\\x.safetensors"],
)
def test_names_that_leave_the_folder_of_models(refused, simple, name):
    refused(simple(node_1={"ckpt_name": name}), "node 1 (CheckpointLoaderSimple)", "is no file name")


def test_no_file_that_a_workflow_names_is_opened(folder, simple, monkeypatch):
    (folder / "models" / "checkpoints").mkdir(parents=True)
    (folder / "models" / "checkpoints" / "sd3.5_medium.safetensors").write_text("weights")
    (folder / "workflow.json").write_text(json.dumps(simple()))
    opened = []
    before = io.open

    def watched(file, *args, **kwargs):
        opened.append(str(file))
        return before(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", watched)
    monkeypatch.setattr(builtins, "open", watched)
    code, _ = command("import", "comfyui", folder / "workflow.json", "--models", folder / "models")
    assert code == 0
    assert any("workflow.json" in path for path in opened)
    assert not any("safetensors" in path for path in opened)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_texts_that_no_table_holds(refused, simple, text):
    refused(
        simple(node_2={"text": text}), "node 2 (CLIPTextEncode): text holds a control character or half a surrogate"
    )


def test_titles_cannot_end_a_comment(imported, simple):
    nodes = simple(node_5={"scheduler": "karras"})
    nodes["5"]["_meta"] = {"title": "x\u2028model: {preset: fake}\n\x1b[2Jy" + "z" * 200}
    job = imported(nodes)
    assert job.sections["model"]["preset"] == "sd3.5-medium"
    assert "\x1b" not in job.text + job.output
    assert "\u2028" not in job.text


def test_nothing_is_overwritten(folder):
    for name in ("job.yaml", "job-prompts.jsonl"):
        (folder / name).write_text("mine")
        code, output = command("import", "comfyui", WORKFLOWS / "two_images.api.json")
        assert code == 2
        assert f"{name}: is there already. Name another file with --job." in output
        assert [path.name for path in folder.iterdir()] == [name]
        (folder / name).unlink()


def test_a_place_that_cannot_be_written(folder):
    code, output = command("import", "comfyui", WORKFLOWS / "two_images.api.json", "--job", folder / "no" / "job.yaml")
    assert (code, "cannot be written (No such file or directory). Name another file." in output) == (2, True)


def test_models_that_are_no_directory(folder):
    code, output = command("import", "comfyui", WORKFLOWS / "two_images.api.json", "--models", folder / "no")
    assert (code, "is no directory. Name ComfyUI's folder of models" in output) == (2, True)


UI_NODE = {"id": 1, "type": "KSampler", "mode": 0, "inputs": [], "outputs": [], "widgets_values": []}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nodes": [3]}, "the 1. node has no id"),
        ({"nodes": [{"id": 1}]}, "node 1 has no type"),
        ({"nodes": [UI_NODE, UI_NODE]}, "node 1 stands twice"),
        ({"nodes": [UI_NODE | {"inputs": [1]}]}, "node 1: its inputs are not a list of slots"),
        ({"links": {}}, None),
        ({"links": 5}, "its links are not a list"),
        ({"links": [[1, 2]]}, "link [1, 2] is not [id, from, slot, to, slot, type]"),
        ({"nodes": [UI_NODE | {"type": "workflow>mine"}]}, "node 1 is a group of nodes. Unpack it"),
        (
            {"nodes": [UI_NODE | {"type": "0d-uuid"}], "definitions": {"subgraphs": [{"id": "0d-uuid"}]}},
            "node 1 is a group of nodes",
        ),
        ({"nodes": []}, "makes no image"),
    ],
)
def test_ui_format_that_is_not_as_comfyui_writes_it(refused, changes, says):
    refused({"nodes": [UI_NODE], "links": []} | changes, says or "KSampler")


def test_a_chain_of_ten_thousand_nodes_is_followed(imported, simple):
    nodes = simple()
    for number in range(1000, 11_000):
        nodes[str(number)] = {
            "class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": [str(number - 1), 0], "conditioning_2": ["2", 0]},
        }
    nodes["1000"]["inputs"]["conditioning_1"] = ["2", 0]
    nodes["5"]["inputs"]["positive"] = ["10999", 0]
    assert imported(nodes).rows[0]["prompt"] == "a cat"
