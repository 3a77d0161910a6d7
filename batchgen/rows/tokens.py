"""How many tokens each text encoder sees of a prompt, and the exact text that it does not see.

Tokenizers only, by explicit class: AutoTokenizer would import torch. Knows no manifest, no files but the
tokenizers' own, no Ray. A counter is not for several threads at once: tokenizers keep state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from transformers import CLIPTokenizer, T5Tokenizer

from batchgen.columns import TEXTS
from batchgen.errors import Refused
from batchgen.job.pipelines import SD3, Pipeline, class_in
from batchgen.job.steps import CLIP_TOKENS
from batchgen.schema import TOKEN_FIELDS

T5_TRAINED_TOKENS = 256  # model card of SD3.5: "77/256 tokens at different stages of training"
TEXTS_AT_ONCE = 1000  # an encoding holds every token as a string: bounds the memory, still feeds all cores

Limits = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What the encoders read of some rows, column by column. None, or "", where an encoder has no text of its own."""

    prompt: Sequence[str]
    prompt_2: Sequence[str | None]
    prompt_3: Sequence[str | None]
    negative_prompt: Sequence[str]
    negative_prompt_2: Sequence[str | None]
    negative_prompt_3: Sequence[str | None]

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array]) -> Self:
        return cls(**{name: columns[name].to_pylist() for name in TEXTS})

    def __len__(self) -> int:
        return len(self.prompt)

    def read(self, column: str) -> list[str]:
        """What the encoder of this column reads: without a text of its own the first's, as in the pipeline."""
        first = self.negative_prompt if column.startswith("negative") else self.prompt
        return [own or instead for own, instead in zip(getattr(self, column), first, strict=True)]


@dataclass(frozen=True, slots=True)
class Counts:
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

    def count(self, texts: Sequence[str], limits: Limits) -> Counts:
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
        return Counts(counts, counts > limits, cut)


class NoEncoder:
    """Stands where a checkpoint has no T5: SD3.5 runs without it, on zeros."""

    def count(self, texts: Sequence[str], limits: Limits) -> Counts:
        nothing = np.zeros(len(texts), np.int32)
        return Counts(nothing, nothing.astype(np.bool_), [None] * len(texts))


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

    def count(self, texts: Texts, t5_limits: Sequence[int] | Limits) -> pa.Table:
        """One row per row of texts with the columns of `schema.TOKEN_FIELDS`. t5_limits: what T5 reads of each."""
        clip, t5 = np.full(len(texts), CLIP_TOKENS, np.int64), np.asarray(t5_limits, np.int64)
        readers = {
            "clip_l": (self._clip_l, "prompt", clip),
            "clip_g": (self._clip_g, "prompt_2", clip),
            "t5": (self._t5, self._t5_reads, t5),
        }
        columns: dict[str, Any] = {"negative_overflow": np.zeros(len(texts), np.bool_)}
        for name, (encoder, column, limits) in readers.items():
            counts = encoder.count(texts.read(column), limits)
            found: dict[str, Any] = {f"tokens_{name}": counts.tokens, f"overflow_{name}": counts.overflow}
            found[f"truncated_{name}"] = counts.cut
            if name == "t5":
                found["t5_over_256"] = counts.tokens > T5_TRAINED_TOKENS
            columns |= dict.fromkeys(found, [None] * len(texts)) if isinstance(encoder, Uncounted) else found
            columns["negative_overflow"] |= encoder.count(texts.read(f"negative_{column}"), limits).overflow
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


def _chunks(texts: dict[str, Any], size: int) -> Iterator[list[str]]:
    rest = iter(texts)
    while chunk := list(islice(rest, size)):
        yield chunk
