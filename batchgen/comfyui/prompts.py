"""Conditionings of a workflow → the texts of three encoders, and what of them a job cannot say.

ComfyUI mixes, masks, zeroes and times conditionings; batchgen has one positive and one negative text per encoder for
all steps. Knows nodes of text and conditioning, and nothing of models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from batchgen.comfyui import percent
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.graph import Node

ENCODERS = ("clip_l", "clip_g", "t5xxl")  # inputs of CLIPTextEncodeSD3
MANY_WORDS = 55  # about 77 tokens of T5 or CLIP, at 1.4 a word of English


@dataclass(frozen=True, slots=True)
class Texts:
    """What each encoder reads."""

    clip_l: str
    clip_g: str
    t5: str

    def columns(self, name: str) -> dict[str, str]:
        """As a manifest or `sampling:` has them: name, name_2, name_3, and no repetition."""
        first = self.clip_l or self.clip_g or self.t5
        others = {f"{name}_2": self.clip_g, f"{name}_3": self.t5}
        return {name: first} | {key: text for key, text in others.items() if text not in ("", first)}


@dataclass(frozen=True, slots=True)
class Steps:
    """The pass that a conditioning is for: noise levels of its steps, and the shift that gives percentages meaning."""

    noise: list[float]
    shift: float

    def within(self, start: float, end: float) -> range:
        return percent.steps_within(self.noise, start, end, self.shift)

    def said(self, start: float, end: float) -> str:
        return percent.said(self.within(start, end), len(self.noise))


@dataclass(frozen=True, slots=True)
class _Part:
    """A conditioning on the way from a sampler to its texts. start, end: percentages of the schedule."""

    node: Node
    slot: int
    start: float = 0.0
    end: float = 1.0
    zeroed: Node | None = None
    ranged: Node | None = None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A part that arrived at a node of text. clip: that node, whose input clip is followed for the encoders."""

    part: _Part
    texts: Texts


def positive(findings: Findings, sampler: Node, name: str, steps: Steps) -> tuple[Texts, Node | None]:
    """The prompt and the node of its text. Empty texts and None where there is none."""
    found = _encoded(findings, sampler, name)
    chosen = next((one for one in found if one.part.zeroed is None), None)
    if chosen is None:
        if found:
            findings.lost(found[0].part.node, "the prompt is zeroed out.", "Its text is written.")
        return (found[0].texts, found[0].part.node) if found else (Texts("", "", ""), None)
    for one in found:
        if one is not chosen:
            findings.lost(
                one.part.node,
                "is combined with another prompt; batchgen reads one per image.",
                f"Only that of {chosen.part.node} is written: put what is missing into it.",
            )
    _say_range(findings, chosen, steps, "the prompt", "reads it in all steps")
    if not any((chosen.texts.clip_l, chosen.texts.clip_g, chosen.texts.t5)):
        findings.lost(chosen.part.node, "the prompt is empty, which batchgen does not render.", "Write one.")
    return chosen.texts, chosen.part.node


def negative(findings: Findings, sampler: Node, name: str, steps: Steps) -> Texts:
    """The negative prompt. Where a workflow zeroes it in some steps, the text of the others."""
    found = _encoded(findings, sampler, name)
    chosen = next((one for one in found if one.part.zeroed is None), None)
    for one in found:
        if one.part.zeroed is not None:
            _say_zeroed(findings, one.part, steps, chosen)
        elif one is not chosen and chosen is not None:
            findings.lost(
                one.part.node,
                "is combined with another negative prompt; batchgen reads one per image.",
                f"Only that of {chosen.part.node} is written: put what is missing into it.",
            )
    if chosen is None:
        return Texts("", "", "")
    _say_range(findings, chosen, steps, "the negative prompt", "guides against it in all steps")
    return chosen.texts


def _say_zeroed(findings: Findings, part: _Part, steps: Steps, chosen: _Encoded | None) -> None:
    if part.zeroed is None:
        return
    instead = "the empty text" if chosen is None else "the negative prompt"
    do = (
        'negative_prompt: "" is written, which is the nearest.'
        if chosen is None
        else 'The text is written; if it was meant for the first steps only, negative_prompt: "" is nearer.'
    )
    findings.lost(
        part.zeroed,
        f"guides against embeddings of zeros ({steps.said(part.start, part.end)}). batchgen guides against {instead} "
        "there: colours and contrast differ.",
        do,
    )


def _say_range(findings: Findings, one: _Encoded, steps: Steps, what: str, instead: str) -> None:
    part = one.part
    if part.ranged is not None and len(steps.within(part.start, part.end)) < len(steps.noise):
        said = steps.said(part.start, part.end)
        findings.lost(part.ranged, f"{what} is read in {said} only; batchgen {instead}.", "")


def _encoded(findings: Findings, sampler: Node, name: str) -> list[_Encoded]:
    """All texts that a conditioning is made of, in the order of inputs."""
    found: list[_Encoded] = []
    first = findings.source(sampler, name)
    waiting = [_Part(*first)] if first else []
    seen: set[tuple[str, int, bool, bool]] = set()
    while waiting:
        part = waiting.pop(0)
        way = (part.node.id, part.slot, part.zeroed is None, part.ranged is None)
        if way in seen:
            continue
        seen.add(way)
        if part.node.kind in ("CLIPTextEncode", "CLIPTextEncodeSD3"):
            found.append(_Encoded(part, _texts(findings, part.node)))
        else:
            waiting = _behind(findings, part) + waiting
    return found


def _behind(findings: Findings, part: _Part) -> list[_Part]:
    """The conditionings that a node makes its own from."""
    node = part.node
    if node.kind == "ConditioningCombine":
        inputs = ("conditioning_1", "conditioning_2")
        return [replace(part, node=one[0], slot=one[1]) for name in inputs if (one := findings.source(node, name))]
    name = _input_behind(node, part.slot)
    onward = findings.source(node, name) if name else None
    if onward is None:
        if not name:
            findings.wrong(node, "batchgen cannot read a prompt from it. Use CLIPTextEncode or CLIPTextEncodeSD3.")
        return []
    behind = replace(part, node=onward[0], slot=onward[1])
    if node.kind == "ConditioningZeroOut":
        return [replace(behind, zeroed=part.zeroed or node)]
    if node.kind == "ConditioningSetTimestepRange":
        start = findings.number(node, "start", 0.0, 0.0, 1.0)
        end = findings.number(node, "end", 1.0, 0.0, 1.0)
        # the one nearest the sampler is what ComfyUI keeps: each sets the values anew
        return [behind if part.ranged is not None else replace(behind, start=start, end=end, ranged=node)]
    findings.lost(node, "batchgen has nothing like it.", "The prompt behind it is read as if it were not there.")
    return [behind]


def _input_behind(node: Node, slot: int) -> str:
    """Of a node that changes a conditioning, or a positive and a negative one together, the input it takes."""
    links = node.links()
    if "positive" in links and "negative" in links:
        return "negative" if slot == 1 else "positive"
    return next((name for name in ("conditioning", "conditioning_to", "conditioning_1") if name in links), "")


def _texts(findings: Findings, node: Node) -> Texts:
    if node.kind == "CLIPTextEncode":
        text = _plain(findings, node, "text")
        _say_long(findings, node, [text])
        return Texts(text, text, text)
    texts = [_plain(findings, node, name) for name in ENCODERS]
    if any(texts):
        for name, text in zip(ENCODERS, texts, strict=True):
            if not text:
                findings.lost(
                    node,
                    f"its {name} is empty and others are not; in batchgen an encoder without a text of its own reads "
                    "the first one.",
                    "Nothing is written for it.",
                )
    _say_long(findings, node, texts)
    return Texts(*texts)


def _plain(findings: Findings, node: Node, name: str) -> str:
    """A text without the marks that ComfyUI takes out of it."""
    text, marked = plain(findings.text(node, name))
    if marked:
        findings.lost(
            node,
            f"{name} holds {', '.join(marked)}; batchgen gives every word the same weight.",
            "The words are written without the marks.",
        )
    return text.strip()


def _say_long(findings: Findings, node: Node, texts: list[str]) -> None:
    words = max(len(text.split()) for text in texts)
    if words > MANY_WORDS:
        findings.lost(
            node,
            f"has {words} words. ComfyUI reads all; batchgen 77 tokens of CLIP and max_sequence_length of T5.",
            "batchgen plan says how many are cut; max_sequence_length: 256 lets T5 read more.",
        )


EMBEDDING = re.compile(r"\bembedding:\S+")
CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")  # of which ComfyUI's page picks one before it runs
WEIGHT = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")
LONGEST = 32  # characters of a weight; nobody writes more
ESCAPED = re.compile(r"\\([()])")


def plain(text: str) -> tuple[str, list[str]]:
    """The text as its encoders read it, and what it lost by that, in words."""
    marked: list[str] = []
    without, weights = _without_weights(text)
    if weights:
        marked.append("weights in brackets")
    if EMBEDDING.search(without):
        marked.append("an embedding: (a file, which is left out)")
        without = EMBEDDING.sub("", without)
    if CHOICE.search(without):
        marked.append("a choice in braces (all of it stays)")
    return without, marked


def _without_weights(text: str) -> tuple[str, bool]:
    """Without the brackets that pair up, and the number at the end of what they hold. One pass, however deep."""
    pairs = _pairs(text)
    dropped: set[int] = set()
    for start, end in pairs:
        dropped |= {start, end}
        colon = text.rfind(":", max(start + 2, end - LONGEST), end)
        if colon > 0 and WEIGHT.match(text[colon + 1 : end]):
            dropped.update(range(colon, end))
    kept = "".join(char for at, char in enumerate(text) if at not in dropped)
    return ESCAPED.sub(r"\1", kept), bool(pairs)


def _pairs(text: str) -> list[tuple[int, int]]:
    """Positions of brackets that open and close each other; escaped ones are letters."""
    open_at: list[int] = []
    found: list[tuple[int, int]] = []
    for at, char in enumerate(text):
        if char not in "()" or (at and text[at - 1] == "\\"):
            continue
        if char == "(":
            open_at.append(at)
        elif open_at:
            found.append((open_at.pop(), at))
    return found
