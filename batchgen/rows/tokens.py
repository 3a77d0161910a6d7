"""How many tokens each text encoder sees of a prompt, and the exact text that it does not see.

Tokenizers only, by explicit class: AutoTokenizer would import torch. Knows no manifest, no files but the
tokenizers' own, no Ray. A counter is not for several threads at once: tokenizers keep state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import CLIPTokenizer, T5Tokenizer

from batchgen.errors import Refused
from batchgen.job.pipelines import SD3, Pipeline, class_in
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


class Uncounted(NoEncoder):
    """Stands where another model has no such encoder, or none that is counted: its columns are null."""


AnyEncoder = Encoder | NoEncoder


class TokenCounter:
    """The three tokenizers of a Stable Diffusion 3 checkpoint, or what another model has of them.

    t5_reads: the column that T5 reads, which is prompt_3 in Stable Diffusion 3 and prompt_2 in Flux.
    """

    def __init__(self, clip_l: AnyEncoder, clip_g: AnyEncoder, t5: AnyEncoder, t5_reads: str = "prompt_3") -> None:
        self._clip_l, self._clip_g, self._t5, self._t5_reads = clip_l, clip_g, t5, t5_reads

    @classmethod
    def load(cls, tokenizers_dir: Path) -> TokenCounter:
        """Read tokenizer, tokenizer_2 and, where there is one, tokenizer_3. Raises Refused where they are missing."""
        if (name := class_in(tokenizers_dir)) not in ("", SD3):
            return cls._of_pipeline(tokenizers_dir, Pipeline.named(name).counted)
        clip = [_load(CLIPTokenizer, tokenizers_dir / name) for name in ("tokenizer", "tokenizer_2")]
        t5 = tokenizers_dir / "tokenizer_3"
        return cls(clip[0], clip[1], _load(T5Tokenizer, t5) if t5.is_dir() else NoEncoder())

    @classmethod
    def _of_pipeline(cls, tokenizers_dir: Path, counted: Mapping[str, tuple[str, str]]) -> TokenCounter:
        kinds = {"clip_l": CLIPTokenizer, "clip_g": CLIPTokenizer, "t5": T5Tokenizer}
        found = {
            name: _load(kind, tokenizers_dir / counted[name][0]) if name in counted else Uncounted()
            for name, kind in kinds.items()
        }
        return cls(found["clip_l"], found["clip_g"], found["t5"], counted.get("t5", ("", "prompt"))[1])

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
        t5_texts = {"prompt_2": prompts_2, "prompt_3": prompts_3}.get(self._t5_reads, prompts)
        t5 = self._t5.measure(_or(t5_texts, prompts), t5_limits)
        none: Sequence[str | None] = [None] * len(negatives)
        t5_negatives = {"prompt_2": negatives_2, "prompt_3": negatives_3}.get(self._t5_reads) or none
        negative = (
            self._clip_l.measure(negatives, clip_limits).overflow
            | self._clip_g.measure(_or(negatives_2 or none, negatives), clip_limits).overflow
            | self._t5.measure(_or(t5_negatives, negatives), t5_limits).overflow
        )
        columns: dict[str, Any] = {
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
        for name, encoder in (("clip_l", self._clip_l), ("clip_g", self._clip_g), ("t5", self._t5)):
            if isinstance(encoder, Uncounted):
                unknown = [f"tokens_{name}", f"overflow_{name}", f"truncated_{name}", *["t5_over_256"] * (name == "t5")]
                columns |= dict.fromkeys(unknown, [None] * len(prompts))
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
