"""Prompts → embeddings with Stable Diffusion 3's three text encoders: each text once, always in batches of one size.

The arithmetic is diffusers' own `encode_prompt`. Knows nothing of images; what a text was cut to `rows.tokens` says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from batchgen.engines.protocol import CACHE_BYTES, ENCODE_BATCH, ImageRow


class Texts(NamedTuple):
    """What one embedding is made of: a text per encoder, and the T5 length, on which every T5 value depends.

    All texts that are encoded at once have one adapter, the one that is at work.
    """

    clip_l: str
    clip_g: str
    t5: str
    max_sequence_length: int
    adapter: str | None = None  # it may change the CLIP encoders


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """text: (77 + max_sequence_length, joint width); pooled: (pooled width,). Both on the device."""

    text: torch.Tensor
    pooled: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.text.nbytes + self.pooled.nbytes


class RowEmbeds(NamedTuple):
    """negative: None where guidance is off and nothing would look at it."""

    positive: Embedding
    negative: Embedding | None


class PromptEncoder:
    """Not thread-safe: tokenizers that two threads share give wrong lengths without a word."""

    def __init__(self, pipe: Any, cache_bytes: int = CACHE_BYTES, device: torch.device | None = None) -> None:
        """device: where the arithmetic is done, if not where the transformer is now."""
        self.pipe = pipe
        self.device, self.dtype = device or pipe.transformer.device, pipe.transformer.dtype
        self.cache_bytes = cache_bytes
        self.cache: OrderedDict[Texts, Embedding] = OrderedDict()
        self.cached_bytes = 0

    def __call__(self, rows: Sequence[ImageRow]) -> list[RowEmbeds]:
        wanted = [(positive_of(row), negative_of(row)) for row in rows]
        found = self._look_up(dict.fromkeys(texts for pair in wanted for texts in pair if texts is not None))
        return [RowEmbeds(found[pos], found[neg] if neg is not None else None) for pos, neg in wanted]

    def _look_up(self, wanted: Iterable[Texts]) -> dict[Texts, Embedding]:
        """All of `wanted`, from the cache or encoded now; the caller's own references survive any eviction."""
        found: dict[Texts, Embedding] = {}
        missing: dict[int, list[Texts]] = {}
        for texts in wanted:
            if texts in self.cache:
                self.cache.move_to_end(texts)
                found[texts] = self.cache[texts]
            else:
                missing.setdefault(texts.max_sequence_length, []).append(texts)
        for same_length in missing.values():
            for start in range(0, len(same_length), ENCODE_BATCH):
                chunk = same_length[start : start + ENCODE_BATCH]
                found |= zip(chunk, self._encode(chunk), strict=True)
        for texts in found:
            self._remember(texts, found[texts])
        return found

    def _encode(self, chunk: Sequence[Texts]) -> list[Embedding]:
        """One batch of ENCODE_BATCH texts through the three encoders."""
        length = chunk[0].max_sequence_length
        padded = [*chunk, *[Texts("", "", "", length)] * (ENCODE_BATCH - len(chunk))]
        text, _, pooled, _ = self.pipe.encode_prompt(
            prompt=[texts.clip_l for texts in padded],
            prompt_2=[texts.clip_g for texts in padded],
            prompt_3=[texts.t5 for texts in padded],
            device=self.device,
            do_classifier_free_guidance=False,  # negatives are texts like any other, encoded once
            max_sequence_length=length,
        )
        # copy: a slice would keep all ENCODE_BATCH rows alive for as long as one of them is cached. Encoders of several
        # dtypes give the widest of theirs; the transformer takes its own.
        return [
            Embedding(text[i].to(self.dtype, copy=True), pooled[i].to(self.dtype, copy=True)) for i in range(len(chunk))
        ]

    def _remember(self, texts: Texts, embedding: Embedding) -> None:
        if texts in self.cache:
            return
        self.cache[texts] = embedding
        self.cached_bytes += embedding.nbytes
        while self.cached_bytes > self.cache_bytes:
            _, oldest = self.cache.popitem(last=False)
            self.cached_bytes -= oldest.nbytes


def positive_of(row: ImageRow) -> Texts:
    return Texts(
        row.prompt, row.prompt_2 or row.prompt, row.prompt_3 or row.prompt, row.max_sequence_length, row.adapter
    )


def negative_of(row: ImageRow) -> Texts | None:
    """An encoder without a negative of its own reads negative_prompt, as in diffusers."""
    if row.guidance_scale <= 1:
        return None
    negative = row.negative_prompt
    return Texts(
        negative, row.negative_prompt_2 or negative, row.negative_prompt_3 or negative, row.max_sequence_length,
        row.adapter,
    )  # fmt: skip
