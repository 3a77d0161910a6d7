"""Writes batchgen/demo/checkpoint: Stable Diffusion 3.5 Medium's architecture, a few hundred thousand random weights.

    python jobs/build_demo.py [DIRECTORY]

The pictures mean nothing, but they have shapes and colours, and they change with the prompt, the guidance and the seed:
enough to run batchgen from manifest to dataset with no GPU, no network and no gated weights. The same versions of
torch and tokenizers write the same bytes. Knows nothing of batchgen but where the demo lies and `models/presets.py`'s
row "demo", which states the sizes chosen here.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

DEFAULT = Path(__file__).parent.parent / "batchgen" / "demo" / "checkpoint"
SEED = 3

WORDS = {
    "colours": "red orange yellow green blue purple pink brown black white grey golden silver cyan magenta turquoise",
    "shapes": "circle square triangle cube sphere cylinder cone star heart ring pyramid spiral",
    "numbers": "one two three four five six seven eight nine ten a the some many several",
    "relations": """
        on under above below beside behind between near inside in front of next to left of right of on top of
        against around across from with without
    """,
    "adjectives": """
        small large tiny huge old new young shiny wooden metal glass stone soft hard round flat tall short bright
        dark warm cold quiet busy empty full broken ancient modern beautiful detailed colourful realistic abstract
        minimal dramatic misty sunny rainy snowy cloudy wet dry sharp blurry vintage elegant simple
    """,
    "nouns": """
        cat dog horse bird fish cow sheep elephant bear zebra giraffe person man woman child boy girl car bus train
        truck boat bicycle motorcycle airplane bench chair table couch bed lamp clock vase bottle cup bowl plate
        fork knife spoon book phone laptop keyboard apple banana orange pear cake pizza sandwich carrot bread cheese
        egg tree flower leaf grass mountain river lake sea beach forest desert field garden street city village
        house castle bridge tower church window door roof wall road sky cloud sun moon star rain snow fire light
        shadow mirror painting photo photograph portrait landscape drawing sketch illustration poster render scene
        view background style watercolour oil pencil ink camera lens robot astronaut dragon knight wizard king queen
        ship island waterfall lighthouse market kitchen room library museum hat coat dress shoe shirt glove umbrella
        bag balloon kite ball toy guitar piano violin drum newspaper letter word sign text number line pattern
        texture fabric paper sand water ice smoke steam glass coffee tea wine milk honey
    """,
    "verbs": """
        standing sitting lying running walking jumping flying swimming sleeping eating drinking holding wearing
        looking playing reading painting made covered filled surrounded lit floating hanging growing glowing
    """,
}


def sentences(count: int = 6000) -> Iterator[str]:
    """Lower-case English in the shape of prompts, the same every time."""
    pick, words = random.Random(SEED).choice, {kind: text.split() for kind, text in WORDS.items()}
    colours, shapes, numbers, relations, adjectives, nouns, verbs = words.values()
    for _ in range(count):
        first, second = f"{pick(numbers)} {pick(colours)} {pick(shapes)}", f"{pick(colours)} {pick(nouns)}"
        yield f"{first} {pick(relations)} {pick(numbers)} {second}"
        yield f"a {pick(nouns)} of {pick(numbers)} {pick(adjectives)} {pick(nouns)}s {pick(verbs)} {pick(relations)} it"
        yield f"{pick(adjectives)} {pick(nouns)}, {pick(adjectives)} {pick(nouns)} and {pick(nouns)}, {second}."


def clip_vocabulary(size: int = 1100) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE laid out as CLIP's: 256 bytes from "!" on, the same at a word's end, merges, two specials."""
    words = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")  # CLIPTokenizer, transformers 5.23
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # "!" sorts first and becomes id 0, as in CLIP
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(sentences(), trainer)
    merges = [(first, second) for first, second in json.loads(trained.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(first + second for first, second in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def t5_vocabulary(merges: list[tuple[str, str]]) -> list[tuple[str, float]]:
    """Unigram pieces with their scores: whole words, pieces of words, every printable ASCII letter.

    Counted, not trained: the Unigram trainer of `tokenizers` 0.23 gives other scores in every process.
    """
    counts = Counter(word for sentence in sentences() for word in re.findall("[a-z]+", sentence))
    total = sum(counts.values())
    specials = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}  # ids 0, 1, 2, as T5Tokenizer expects
    letters = {chr(code): -15.0 for code in range(33, 127)}
    pieces = {(first + second).removesuffix("</w>"): -14.0 for first, second in merges}
    words = {"▁" + word: round(math.log(count / total), 3) for word, count in counts.items()}
    return list((specials | {"▁": -3.0} | letters | pieces | words).items())


def tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer, T5Tokenizer]:
    vocabulary, merges = clip_vocabulary()
    first = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>", model_max_length=77)
    second = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=77)  # as in SD3
    return first, second, T5Tokenizer(vocab=t5_vocabulary(merges), extra_ids=0, model_max_length=512)


def text_encoder(width: int, activation: str, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=2,  # as in the real config: pools at the largest id, which is the end of text
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModelWithProjection(config)
    for name, weight in encoder.named_parameters():  # the default of 0.02 would hardly tell prompts apart
        if "embedding" in name:
            nn.init.normal_(weight, std=0.2 if "position" in name else 1.0)
        elif weight.ndim == 2:
            nn.init.normal_(weight, std=(3.0 if "self_attn" in name else 1.0) * weight.shape[1] ** -0.5)
    return encoder


def t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        d_ff=160,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config)


def transformer() -> SD3Transformer2DModel:
    """Four layers, two with dual attention. The velocity it predicts pulls each patch towards a pattern of its own.

    A patch has 2 × 2 × 16 = 64 values, the width: with an orthogonal embedding and its inverse as the output, the
    prediction is the normalized latent (noise fades over the steps) and what positions and text add (shapes grow).
    """
    model = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=64,
        pooled_projection_dim=96,
        out_channels=16,
        pos_embed_max_size=32,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )
    channels = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0].float()
    corners = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2  # the mean comes first
    rotation = torch.einsum("oc,kp->kocp", channels, corners).reshape(64, 64)  # (hidden, channel × corner)
    strength = torch.tensor([2.4, 1.2, 1.2, 1.2]).repeat_interleave(16)  # less within a patch: no visible grid
    with torch.no_grad():
        model.pos_embed.proj.weight.copy_(rotation.view(64, 16, 2, 2))
        model.pos_embed.proj.bias.zero_()
        # proj_out gives (row, column, channel) of a patch, the embedding takes (channel, row, column).
        outwards = strength[:, None] * rotation
        model.proj_out.weight.copy_(outwards.view(64, 16, 2, 2).permute(2, 3, 1, 0).reshape(64, 64))
        model.proj_out.bias.zero_()
        model.context_embedder.weight.mul_(4.0)
        model.time_text_embed.text_embedder.linear_2.weight.mul_(6.0)
        for block in model.transformer_blocks:
            block.norm1.linear.weight.mul_(2.0)
            block.attn.to_out[0].weight.mul_(4.0)
        model.norm_out.linear.weight.mul_(1.3)
    return model


def vae() -> AutoencoderKL:
    """Factor 8, 16 channels, Stable Diffusion 3's scaling. Its convolutions blur, so that shapes survive."""
    model = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=256,
        scaling_factor=1.5305,  # stabilityai/stable-diffusion-3-medium-diffusers, vae/config.json
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )
    soft = torch.tensor([1.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 1.0])) / 25
    with torch.no_grad():
        for module in model.decoder.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                mix = torch.randn(module.out_channels, module.in_channels, 1, 1) / module.in_channels**0.5
                module.weight.copy_(0.3 * module.weight + 1.5 * mix * soft)
        colours = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64))[0].T.float()  # uncorrelated red, green, blue
        model.decoder.conv_out.weight.copy_(
            0.1 * model.decoder.conv_out.weight + 0.9 * colours[:, :, None, None] * soft
        )
        model.decoder.conv_out.bias.copy_(-0.9 * 0.4 * colours.sum(1))  # what SiLU of a normalized channel adds
    return model


def build() -> StableDiffusion3Pipeline:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    first, second, third = tokenizers()
    return StableDiffusion3Pipeline(
        transformer=transformer(),
        vae=vae(),
        text_encoder=text_encoder(32, "quick_gelu", first),
        text_encoder_2=text_encoder(64, "gelu", second),
        text_encoder_3=t5_encoder(third),
        tokenizer=first,
        tokenizer_2=second,
        tokenizer_3=third,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
    )


def main(directory: Path) -> None:
    pipe = build()
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3):
        part.to(torch.float16)  # half the bytes; loads as fp32 where that is asked for
    pipe.save_pretrained(directory, safe_serialization=True)
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        file = directory / name / "config.json"  # without dtype=, transformers loads what stands here: all parts alike
        config = json.loads(file.read_text()) | {"dtype": "float32"}
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    parameters = sum(weight.numel() for weight in pipe.transformer.parameters())
    print(f"{directory}: {size / 1e6:.2f} MB, {parameters:,} parameters in the transformer")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
