"""How many tokens each text encoder sees of a prompt, and the exact text that it does not see.

Tokenizers only, by explicit class: AutoTokenizer would import torch. Knows no manifest, no files but the
tokenizers' own, no Ray. A counter is not for several threads at once: tokenizers keep state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import CLIPTokenizer, T5Tokenizer

from batchgen.errors import Refused
from batchgen.schema import TOKEN_FIELDS

CLIP_TOKENS = 77  # StableDiffusion3Pipeline, diffusers 0.42.1: tokenizer.model_max_length, with start and end token
T5_TRAINED_TOKENS = 256  # model card of SD3.5: "77/256 tokens at different stages of training"
TEXTS_AT_ONCE = 1000  # an encoding holds every token as a string: bounds the memory, still feeds all cores

Limits = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Per text: tokens with the special ones and without truncation, and what lies beyond the limit, or None."""

    tokens: np.ndarray[Any, np.dtype[np.int32]]
    overflow: np.ndarray[Any, np.dtype[np.bool_]]
    cut: list[str | None]


class Encoder:
    """One tokenizer, asked directly: the wrapper around it warns about long texts and may truncate."""

    def __init__(self, tokenizer: CLIPTokenizer | T5Tokenizer) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    def measure(self, texts: Sequence[str], limits: Limits) -> Measured:
        """Every distinct text is encoded once, however many rows and limits share it."""
        wanted: dict[str, dict[int, str | None]] = {}
        for text, limit in zip(texts, limits.tolist(), strict=True):
            wanted.setdefault(text, {})[limit] = None
        tokens: dict[str, int] = {}
        for chunk in _chunks(wanted, TEXTS_AT_ONCE):
            for text, encoding in zip(chunk, self._backend.encode_batch(chunk), strict=True):
                tokens[text] = len(encoding)
                for limit in wanted[text]:
                    wanted[text][limit] = _cut(text, encoding, limit)
        counts = np.fromiter((tokens[text] for text in texts), np.int32, len(texts))
        cut = [wanted[text][limit] for text, limit in zip(texts, limits.tolist(), strict=True)]
        return Measured(counts, counts > limits, cut)


class NoEncoder:
    """Stands where a checkpoint has no T5: SD3.5 runs without it, on zeros."""

    def measure(self, texts: Sequence[str], limits: Limits) -> Measured:
        nothing = np.zeros(len(texts), np.int32)
        return Measured(nothing, nothing.astype(np.bool_), [None] * len(texts))


class TokenCounter:
    """The three tokenizers of a Stable Diffusion 3 checkpoint."""

    def __init__(self, clip_l: Encoder, clip_g: Encoder, t5: Encoder | NoEncoder) -> None:
        self._clip_l, self._clip_g, self._t5 = clip_l, clip_g, t5

    @classmethod
    def load(cls, tokenizers_dir: Path) -> TokenCounter:
        """Read tokenizer, tokenizer_2 and, where there is one, tokenizer_3. Raises Refused where they are missing."""
        clip = [_load(CLIPTokenizer, tokenizers_dir / name) for name in ("tokenizer", "tokenizer_2")]
        t5 = tokenizers_dir / "tokenizer_3"
        return cls(clip[0], clip[1], _load(T5Tokenizer, t5) if t5.is_dir() else NoEncoder())

    def count(
        self,
        prompts: Sequence[str],
        prompts_2: Sequence[str | None],
        prompts_3: Sequence[str | None],
        negatives: Sequence[str],
        max_sequence_lengths: Sequence[int] | Limits,
        negatives_2: Sequence[str | None] | None = None,
        negatives_3: Sequence[str | None] | None = None,
    ) -> pa.Table:
        """One row per prompt with the columns of `schema.TOKEN_FIELDS`.

        An encoder without a text of its own reads `prompt`, as in the pipeline (`prompt_2 or prompt`).
        """
        clip_limits = np.full(len(prompts), CLIP_TOKENS, np.int64)
        t5_limits = np.asarray(max_sequence_lengths, np.int64)
        clip_l = self._clip_l.measure(prompts, clip_limits)
        clip_g = self._clip_g.measure(_or(prompts_2, prompts), clip_limits)
        t5 = self._t5.measure(_or(prompts_3, prompts), t5_limits)
        negative = (
            self._clip_l.measure(negatives, clip_limits).overflow
            | self._clip_g.measure(_or(negatives_2 or [None] * len(negatives), negatives), clip_limits).overflow
            | self._t5.measure(_or(negatives_3 or [None] * len(negatives), negatives), t5_limits).overflow
        )
        columns = {
            "tokens_clip_l": clip_l.tokens,
            "tokens_clip_g": clip_g.tokens,
            "tokens_t5": t5.tokens,
            "overflow_clip_l": clip_l.overflow,
            "overflow_clip_g": clip_g.overflow,
            "overflow_t5": t5.overflow,
            "t5_over_256": t5.tokens > T5_TRAINED_TOKENS,
            "truncated_clip_l": clip_l.cut,
            "truncated_clip_g": clip_g.cut,
            "truncated_t5": t5.cut,
            "negative_overflow": negative,
        }
        return pa.table(columns, schema=pa.schema(TOKEN_FIELDS))


def _load(kind: type[CLIPTokenizer | T5Tokenizer], folder: Path) -> Encoder:
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no tokenizer. A checkpoint has tokenizer, tokenizer_2 and tokenizer_3.")
    try:
        return Encoder(kind.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{folder}: the tokenizer cannot be read ({error}). Fetch the checkpoint again.") from error


def _cut(text: str, encoding: Any, limit: int) -> str | None:
    """What of text lies beyond the limit.

    A tokenizer that truncates keeps ids[:limit - 1] and puts its end token after them, so the first token that
    is lost is the one at limit - 1. A character split over kept and lost tokens counts as lost.
    """
    if len(encoding) <= limit:
        return None
    start, _ = encoding.token_to_chars(limit - 1)
    return text[start:]


def _or(own: Sequence[str | None], prompts: Sequence[str]) -> list[str]:
    return [text or prompt for text, prompt in zip(own, prompts, strict=True)]


def _chunks(texts: dict[str, Any], size: int) -> Iterator[list[str]]:
    rest = iter(texts)
    while chunk := list(islice(rest, size)):
        yield chunk
