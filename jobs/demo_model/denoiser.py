"""The denoiser of the demo and its three text encoders, trained together on the autoencoder's latents.

Flow matching as in Stable Diffusion 3: x_t = (1 - t) x_0 + t ε with t logit-normal and shifted towards noise, where
prompts matter; the model predicts ε - x_0. One prompt in ten is empty, so that guidance has something to lean away
from. Knows the world; not how its pictures look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from demo_model.autoencoder import pixels_of, random_size
from demo_model.loop import train
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from batchgen.demo.world import Scene, draw, prompt_of, random_scene

BATCH = 64
UNCONDITIONAL = 0.1
SHIFT = 2.0  # of the time while training; sampling shifts by 3
# Texts as short as the longest of the batch are half the cost of texts padded to 77 and 64 tokens, as they are in use:
# padded is one step in ten from a quarter of the steps on, and every step at the end.
PADDED_FROM, PADDED_EVERY, PADDED_LAST = 0.25, 10, 0.97
LONG = 0.25  # of the padded batches have prompts that are longer than what an encoder reads
DETAILS = (  # words that change nothing: they make prompts longer than what an encoder reads
    "drawn with sharp edges",
    "without any shadow",
    "flat and simple",
    "in the style of a poster",
    "painted on paper",
    "with even light",
    "clean and modern",
    "elegant and minimal",
    "made with great care",
    "as in a book",
)


def text_encoder(width: int, activation: str, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
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
    )
    for name, weight in encoder.named_parameters():  # the default of 0.02 would hardly tell prompts apart
        if "embedding" in name:
            nn.init.normal_(weight, std=0.1 if "position" in name else 0.5)
    return encoder


def t5_encoder(tokenizer: Any) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=128,
        d_kv=32,
        d_ff=192,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config)


def transformer() -> SD3Transformer2DModel:
    """Medium's blocks, six of 24, the first three with dual attention; width 128. Each block starts as the identity."""
    model = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=128,
        pooled_projection_dim=128,
        out_channels=16,
        pos_embed_max_size=32,
        dual_attention_layers=(0, 1, 2),
        qk_norm="rms_norm",
    )
    gates = [layer for block in model.transformer_blocks for layer in (block.norm1.linear, block.norm1_context.linear)]
    for layer in (*gates, model.norm_out.linear, model.proj_out):  # adaLN-Zero, arXiv 2212.09748, section 3.2
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


class Denoiser(nn.Module):
    """The transformer and its text encoders, as one set of weights."""

    def __init__(self, tokenizers: Sequence[Any]) -> None:
        super().__init__()
        self.tokenizers = tokenizers
        self.text_encoder = text_encoder(48, "quick_gelu", tokenizers[0])
        self.text_encoder_2 = text_encoder(80, "gelu", tokenizers[1])
        self.text_encoder_3 = t5_encoder(tokenizers[2])
        self.transformer = transformer()

    def begin_with(self, pipe: StableDiffusion3Pipeline) -> None:
        """Take the weights of a pipeline of this architecture."""
        for name, part in self.named_children():
            part.load_state_dict(getattr(pipe, name).state_dict())

    def embed(self, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As diffusers' encode_prompt: ((batch, CLIP tokens + T5 tokens, 128), (batch, 128))."""
        clips = [
            encoder(tokens, output_hidden_states=True)
            for encoder, tokens in zip((self.text_encoder, self.text_encoder_2), ids[:2], strict=True)
        ]
        clip = torch.cat([output.hidden_states[-2] for output in clips], dim=-1)
        t5 = self.text_encoder_3(ids[2])[0]
        return torch.cat([clip, t5], dim=1), torch.cat([output.text_embeds for output in clips], dim=-1)

    def tokenize(self, texts: Sequence[str], clip_length: int | None, t5_length: int | None) -> list[Tensor]:
        """None: as long as the longest text."""
        found = []
        for tokenizer, length, limit in zip(
            self.tokenizers, (clip_length, clip_length, t5_length), (77, 77, 256), strict=True
        ):
            padding = "max_length" if length else "longest"
            tokens = tokenizer(
                list(texts), padding=padding, max_length=length or limit, truncation=True, return_tensors="pt"
            )
            found.append(tokens.input_ids)
        return found


def prompt_for(scene: Scene, random: Random, long: bool) -> str:
    """long: with details between the things and their background, which some encoders then do not read."""
    prompt = prompt_of(scene, random)
    if not long:
        return prompt
    where = max(prompt.rfind(mark) for mark in (" on ", " against ", ", ")) if scene.background else len(prompt)
    head, tail = prompt[:where], prompt[where:]
    details = ", ".join(random.choice(DETAILS) for _ in range(random.randint(1, 24)))
    return f"{head}, {details}{tail}"


def make_bank(vae: AutoencoderKL, batches: int) -> list[tuple[Tensor, list[Scene]]]:
    """Latents of scenes that are not held out, a size a batch: ((batch, 16, height/8, width/8) fp16, their scenes)."""
    bank = []
    for number in range(batches):
        random = Random(f"bank {number}")
        # The smaller of two: small pictures are harder, and cheaper.
        height, width = min(random_size(random), random_size(random), key=math.prod)
        scenes: list[Scene] = []
        while len(scenes) < BATCH:
            scene = random_scene(random)
            if not scene.held_out:
                scenes.append(scene)
        pixels = pixels_of([draw(scene, height, width, random) for scene in scenes]).to(vae.device)
        with torch.no_grad(), torch.autocast(vae.device.type, torch.bfloat16):
            latents = vae.encode(pixels).latent_dist.mean.float()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        bank.append((latents.contiguous().half(), scenes))
    return bank


def train_denoiser(model: Denoiser, vae: AutoencoderKL, steps: int, batches: int, folder: Path) -> None:
    """Trains `model` in place, on the device where it is."""
    bank, device = make_bank(vae, batches), next(model.parameters()).device

    def step(number: int, random: Random, generator: torch.Generator) -> Tensor:
        latents, scenes = bank[random.randrange(len(bank))]
        often = number >= PADDED_FROM * steps and number % PADDED_EVERY == 0
        padded = often or number >= PADDED_LAST * steps
        long = padded and random.random() < LONG
        prompts = [
            "" if random.random() < UNCONDITIONAL else prompt_for(scene, random, long and random.random() < 0.7)
            for scene in scenes
        ]
        t5_length = random.choice((64, 64, 128, 256)) if long else 64
        ids = model.tokenize(prompts, 77, t5_length) if padded else model.tokenize(prompts, None, None)
        text, pooled = model.embed([part.to(device) for part in ids])
        latents = latents.to(device).float()
        noise = torch.randn(latents.shape, generator=generator).to(device)
        sigma = torch.sigmoid(torch.randn(len(latents), generator=generator) + math.log(SHIFT)).to(device)
        share = sigma[:, None, None, None]
        velocity = model.transformer(
            hidden_states=(1 - share) * latents + share * noise,
            timestep=1000 * sigma,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return F.mse_loss(velocity.float(), noise - latents)

    train("denoiser", model, step, steps, 1.5e-3, folder)
