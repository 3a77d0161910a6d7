"""Published pickles become safetensors with the same numbers: against open_clip's way of computing, written out."""

import hashlib
import json

import numpy as np
import pytest
import torch
from convert_scorer import Kind, main
from safetensors.numpy import load_file
from torch import nn

from batchgen.evaluate.scorers.cosines import ClipModel
from batchgen.evaluate.scorers.models import find_model
from tests.models.clips import padded

WIDTH, HEADS, LAYERS, SIDE, PATCH, OUT, WORDS, LONGEST = 64, 16, 2, 32, 8, 24, 49408, 77


class Block(nn.Module):
    """A block as open_clip has it, and under its names."""

    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.resblocks = nn.ModuleList(Block() for _ in range(LAYERS))


class OpenClip(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Module()
        self.visual.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.visual.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.visual.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.visual.ln_pre, self.visual.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.visual.transformer, self.visual.proj = Tower(), nn.Parameter(torch.randn(WIDTH, OUT))
        self.token_embedding, self.transformer = nn.Embedding(WORDS, WIDTH), Tower()
        self.positional_embedding = nn.Parameter(torch.randn(LONGEST, WIDTH))
        self.ln_final, self.text_projection = nn.LayerNorm(WIDTH), nn.Parameter(torch.randn(WIDTH, OUT))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def picture(self, pixels):
        patches = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.visual.class_embedding.expand(len(pixels), 1, WIDTH), patches], dim=1)
        x = self.visual.ln_pre(x + self.visual.positional_embedding)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return nn.functional.normalize(self.visual.ln_post(x[:, 0]) @ self.visual.proj)

    def text(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((LONGEST, LONGEST), -torch.inf).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        return nn.functional.normalize(self.ln_final(x)[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection)


def test_hps_keeps_its_numbers(tmp_path):
    torch.manual_seed(0)
    model = OpenClip().eval()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in model.state_dict().items()}}, tmp_path / "h.pt"
    )
    main(Kind.hps, tmp_path / "h.pt", tmp_path / "hps")
    found = ClipModel(find_model(str(tmp_path / "hps")), "cpu")
    picture = padded(np.random.default_rng(0).integers(0, 256, (40, 96, 3), dtype=np.uint8))
    prompt = "a red circle on two blue squares, déjà vu"
    ids = found.tokenizer(prompt)["input_ids"]  # open_clip pads with zeros, and reads at the highest id: the end
    with torch.no_grad():
        np.testing.assert_allclose(
            found.pictures([picture]).numpy(), model.picture(torch.from_numpy(picture)[None]).numpy(), atol=1e-4
        )
        there = model.text(torch.tensor([ids + [0] * (LONGEST - len(ids))]))
    np.testing.assert_allclose(found.texts([prompt])[0].numpy(), there.numpy(), atol=1e-4)
    record = json.loads((tmp_path / "hps" / "conversion.json").read_text())
    assert record["from_sha256"] == hashlib.sha256((tmp_path / "h.pt").read_bytes()).hexdigest()
    assert record["to_sha256"] == hashlib.sha256((tmp_path / "hps" / "model.safetensors").read_bytes()).hexdigest()


def test_the_aesthetic_head_keeps_its_layers_and_nothing_else_is_taken_for_one(tmp_path):
    state = {"layers.0.weight": torch.randn(4, 8), "layers.0.bias": torch.randn(4)}
    torch.save(state, tmp_path / "head.pth")
    main(Kind.aesthetic, tmp_path / "head.pth", tmp_path / "head")
    made = load_file(tmp_path / "head" / "model.safetensors")
    assert all((made[name] == value.numpy()).all() for name, value in state.items())
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no head of linear layers"):
        main(Kind.aesthetic, tmp_path / "other.pth", tmp_path / "other")


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").write_text, ("",))

    torch.save(Trap(), tmp_path / "trap.pt")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        main(Kind.hps, tmp_path / "trap.pt", tmp_path / "hps")
    assert not (tmp_path / "sprung").exists()
