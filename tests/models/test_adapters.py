"""LoRAs: as diffusers applies them, as if each had been alone, and none that does not belong to the model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from batchgen.engines import load_renderer
from batchgen.errors import Refused
from batchgen.job import Adapter, Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.run.found_model import FoundModel
from batchgen.weights.lora import locate_adapters
from batchgen.weights.quantization import refuse_unusable
from tests.models.test_parity import PROMPTS, call

ATTENTION = [f"transformer.transformer_blocks.{block}.attn.to_{name}" for block in range(6) for name in "qkv"]
TEXT = [f"text_encoder.text_model.encoder.layers.{layer}.self_attn.{name}_proj" for layer in (0, 1) for name in "qv"]


def lora(seed, layers=ATTENTION, width=128, rank=4):
    """Tensors of a LoRA that changes pictures visibly."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in layers:
        size = 48 if layer.startswith("text_encoder.") else width
        tensors[f"{layer}.lora_A.weight"] = torch.randn(rank, size, generator=random) * 0.2
        tensors[f"{layer}.lora_B.weight"] = torch.randn(size, rank, generator=random) * 0.2
    return tensors


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    """alias → Adapter: two styles, of which one also changes a text encoder."""
    folder = tmp_path_factory.mktemp("loras")
    save_file(lora(1), folder / "ink.safetensors")
    save_file(lora(2, ATTENTION + TEXT), folder / "chalk.safetensors")
    return {
        "ink": Adapter(path=str(folder / "ink.safetensors"), scale=0.8),
        "chalk": Adapter(path=str(folder / "chalk.safetensors")),
    }


def located(adapters):
    base = FoundModel(str(DEMO_CHECKPOINT), None, "d", DEMO_CHECKPOINT)
    return locate_adapters(Model(preset="demo", adapters=adapters), base)


@pytest.fixture(scope="module")
def with_loras(make_spec, one_thread, loras):
    return load_renderer(replace(make_spec(), adapters=located(loras)))


def rows_of(make_row, adapter, **settings):
    return [make_row(i, prompt=text, adapter=adapter, **settings) for i, text in enumerate(PROMPTS[:2])]


def render(renderer, rows):
    return renderer.denoise(rows, renderer.encode(rows))


@pytest.mark.parametrize("alias", ["ink", "chalk"])
def test_the_numbers_are_diffusers(with_loras, load_pipe, loras, make_row, alias):
    rows = rows_of(make_row, alias, negative_prompt="grey")
    embeds = with_loras.encode(rows)
    pipe = load_pipe("float32")
    pipe.load_lora_weights(loras[alias].path, adapter_name="style")
    pipe.set_adapters(["style"], [loras[alias].scale])
    with torch.no_grad():
        batch = [PROMPTS[0], "grey", PROMPTS[1], *[""] * 5]
        text, *_ = pipe.encode_prompt(batch, None, None, do_classifier_free_guidance=False, max_sequence_length=16)
    assert torch.equal(embeds[1].positive.text, text[2])
    assert torch.equal(with_loras.denoise(rows, embeds), call(pipe, rows, embeds, output_type="latent"))


def test_each_renders_as_if_it_were_alone_and_none_as_if_there_were_none(
    with_loras, renderer, make_spec, loras, make_row
):
    alone = {
        alias: render(
            load_renderer(replace(make_spec(), adapters=located({alias: loras[alias]}))), rows_of(make_row, alias)
        )
        for alias in loras
    }
    alone[None] = render(renderer, rows_of(make_row, None))
    for alias in (None, "ink", "chalk", "ink", None, "chalk"):
        assert torch.equal(render(with_loras, rows_of(make_row, alias)), alone[alias]), alias
    assert (alone["ink"] - alone[None]).abs().mean() > 0.05
    assert (alone["ink"] - alone["chalk"]).abs().mean() > 0.05


def test_a_text_encoders_lora_has_embeddings_of_its_own(with_loras, make_row):
    plain, chalk = (with_loras.encode(rows_of(make_row, alias))[0].positive for alias in (None, "chalk"))
    assert not torch.equal(plain.pooled, chalk.pooled)
    assert with_loras.encode(rows_of(make_row, None))[0].positive is plain


def test_rows_of_two_adapters_are_no_batch(with_loras, make_row):
    rows = [make_row(0, adapter="ink"), make_row(1)]
    with pytest.raises(ValueError, match="rows of one batch differ in adapter"):
        with_loras.encode(rows)


def test_another_file_than_planned_is_not_loaded(make_spec, loras, tmp_path):
    found = located(loras)
    save_file(lora(3), tmp_path / "other.safetensors")
    changed = found | {"ink": replace(found["ink"], path=str(tmp_path / "other.safetensors"))}
    with pytest.raises(Refused, match=r"model\.adapters\.ink: .*planned was"):
        load_renderer(replace(make_spec(), adapters=changed))


def test_what_they_are_is_known_before_anything_is_loaded(loras):
    with open(loras["ink"].path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = located({"ink": loras["ink"].model_copy(update={"sha256": sha256})})
    assert (found["ink"].sha256, found["ink"].scale) == (sha256, 0.8)


BAD = {
    "wide": (lora(1, width=64), "is a LoRA of another model: transformer.transformer_blocks.0.attn.to_k"),
    "deep": (
        lora(1, ["transformer.transformer_blocks.30.attn.to_q"]),
        "is a LoRA of another model: there is no transformer.transformer_blocks.30.attn.to_q",
    ),
    "kohya": ({"lora_unet_x.lora_down.weight": torch.ones(1)}, "is no LoRA that diffusers can read"),
    "weights": ({"pos_embed.proj.weight": torch.ones(1)}, "is no LoRA that diffusers can read"),
    "half": (
        {name: tensor for name, tensor in lora(1).items() if "block" not in name or not name.endswith("B.weight")},
        "lacks the other factor of 18 tensors",
    ),
    "dora": (
        lora(1) | {f"{ATTENTION[0]}.lora_magnitude_vector": torch.ones(128)},
        f"has 1 tensors that would be left out, such as {ATTENTION[0]}.lora_magnitude_vector",
    ),
    "t5": (
        lora(1) | {"text_encoder_3.encoder.lora_A.weight": torch.ones(1)},
        "has 1 tensors that would be left out, such as text_encoder_3.encoder.lora_A.weight",
    ),
}


def test_all_that_is_wrong_is_said_at_once(tmp_path, loras):
    adapters = {"ink": loras["ink"].model_copy(update={"sha256": "0" * 64})}
    for alias, (tensors, _) in BAD.items():
        save_file(tensors, tmp_path / f"{alias}.safetensors")
        adapters[alias] = Adapter(path=str(tmp_path / f"{alias}.safetensors"))
    (tmp_path / "page.safetensors").write_text("<html>")
    adapters["page"] = Adapter(path=str(tmp_path / "page.safetensors"))
    adapters["gone"] = Adapter(path="gone.safetensors")
    with pytest.raises(Refused) as caught:
        located(adapters)
    said = {problem.where: problem.message for problem in caught.value.problems}
    for alias, (_, text) in BAD.items():
        assert text in said[f"model.adapters.{alias}"]
    assert "not 000000000000... as sha256 says" in said["model.adapters.ink"]
    assert "is no safetensors file" in said["model.adapters.page"]
    assert "gone.safetensors does not exist" in said["model.adapters.gone"]
    assert len(said) == len(caught.value.problems) == 10


def test_a_link_to_a_file_without_a_suffix_is_the_file(make_spec, tmp_path, loras, make_row):
    """As the hub's cache has them: blobs by digest, and links with names."""
    blob = tmp_path / "0123abcd"
    save_file(lora(1), blob)
    (tmp_path / "ink.safetensors").symlink_to(blob)
    linked = located({"ink": Adapter(path=str(tmp_path / "ink.safetensors"), scale=0.8)})
    assert linked["ink"].sha256 == located(loras)["ink"].sha256
    load_renderer(replace(make_spec(), adapters=linked))


def test_a_lora_on_a_transformer_in_float8_is_refused():
    model = Model(
        preset="demo", quantization={"transformer": "float8"}, adapters={"ink": Adapter(path="ink.safetensors")}
    )
    with pytest.raises(Refused, match="PEFT cannot multiply in float8"):
        refuse_unusable(model)


def test_a_specs_adapters_survive_a_plans_json(loras):
    found = FoundModel("p", None, "d", adapters=located(loras))
    assert FoundModel.from_dict(json.loads(json.dumps(found.to_dict()))) == found
