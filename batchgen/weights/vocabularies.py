"""The words of CLIP and T5, in the files that transformers reads, made of the two small ones that batchgen carries.

Knows these two vocabularies and the formats they come in; does not know which model reads them. transformers could read
T5's own file only with sentencepiece, which is not needed here.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "configs" / "sd3"
CLIP_MERGES = FOLDER / "clip_merges.txt.gz"  # of open_clip_torch 3.3.0 (MIT), by jobs/clip_vocabulary.py
T5_PIECES = FOLDER / "t5_spiece.model.gz"  # of T5 v1.1 (Apache-2.0), as Google published it, compressed
T5_SPARE = 100  # <extra_id_99> to <extra_id_0>: words of T5's training that are in no text


@cache
def clip_files() -> dict[str, bytes]:
    """CLIP's vocabulary as transformers reads it: 256 bytes, the same at a word's end, 48,894 merges, start and end."""
    merges = gzip.decompress(CLIP_MERGES.read_bytes()).decode().splitlines()
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # open_clip/tokenizer.py, bytes_to_unicode
    others = (byte for byte in range(256) if byte not in plain)
    letters = [*map(chr, plain), *(chr(256 + number) for number, _ in enumerate(others))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = json.dumps({word: number for number, word in enumerate(words)}, ensure_ascii=False)
    return {
        "vocab.json": vocabulary.encode(),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),  # the first line is skipped by readers
    }


def t5_pieces() -> bytes:
    """Google's spiece.model, byte for byte."""
    return gzip.decompress(T5_PIECES.read_bytes())


@cache
def t5_files() -> dict[str, bytes]:
    """T5's vocabulary as the tokenizers library reads it; what surrounds the words is as Hugging Face converted it."""
    words, charsmap = _read_pieces(t5_pieces())
    words += [[f"<extra_id_{number}>", 0.0] for number in reversed(range(T5_SPARE))]
    special = [*range(3), *range(len(words) - T5_SPARE, len(words))]
    spaces: dict[str, Any] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    text, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    other_text = {"Sequence": {"id": "B", "type_id": 0}}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(number, str(words[number][0])) for number in special],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
                {"type": "Strip", "strip_left": False, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
            ],
        },
        "pre_tokenizer": spaces,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, end],
            "pair": [text, end, other_text, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": words, "byte_fallback": False},
    }
    return {"tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode()}


def _special(number: int, word: str) -> dict[str, Any]:
    """A word that is found in a text before the text is split. The spare ones take the spaces around them along."""
    spare = word.startswith("<extra_id_")
    flags = {"single_word": False, "lstrip": spare, "rstrip": spare, "normalized": False, "special": True}
    return {"id": number, "content": word} | flags


def _read_pieces(data: bytes) -> tuple[list[list[str | float]], bytes]:
    """Words with their scores, and the table that normalizes characters: ModelProto of sentencepiece_model.proto."""
    words: list[list[str | float]] = []
    charsmap = b""
    for number, message in _fields(data):
        if number == 1:  # pieces: 1 piece, 2 score
            piece = dict(_fields(message))
            words.append([piece[1].decode(), struct.unpack("<f", piece[2])[0]])
        elif number == 3:  # normalizer_spec: 2 precompiled_charsmap
            charsmap = dict(_fields(message))[2]
    return words, charsmap


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a protobuf message. Contents of plain integers are left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:  # an integer
            _, at = _varint(message, at)
            continue
        size, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, in groups of seven bits with the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
