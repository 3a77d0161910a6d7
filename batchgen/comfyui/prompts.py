"""Conditionings of a workflow → the texts of three encoders, and what of them a job cannot say.

ComfyUI mixes, masks, zeroes and times conditionings; batchgen has one positive and one negative text per encoder, the
latter with zeros in its place from some step on. Knows nodes of text and conditioning, and nothing of models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from batchgen.comfyui import shares
from batchgen.comfyui.findings import Reader
from batchgen.comfyui.graph import Node
from batchgen.comfyui.percent import Steps

ENCODERS = ("clip_l", "clip_g", "t5xxl")  # inputs of CLIPTextEncodeSD3
MANY_WORDS = 55  # about 77 tokens of T5 or CLIP, at 1.4 a word of English


@dataclass(frozen=True, slots=True)
class Texts:
    """What each encoder reads."""

    clip_l: str = ""
    clip_g: str = ""
    t5: str = ""

    def columns(self, name: str) -> dict[str, str]:
        """As a manifest or `sampling:` has them: name, name_2, name_3, and no repetition."""
        first = self.clip_l or self.clip_g or self.t5
        others = {f"{name}_2": self.clip_g, f"{name}_3": self.t5}
        return {name: first} | {key: text for key, text in others.items() if text not in ("", first)}


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the texts that a conditioning is made of, or, while it is followed, a place on the way there.

    node, slot: where it was followed to; at the end the node of text. start, end: percentages of the schedule between
    which it counts. zeroed, ranged: the nodes that made its embedding zero and set the percentages, if any did.
    """

    node: Node
    slot: int
    start: float = 0.0
    end: float = 1.0
    zeroed: Node | None = None
    ranged: Node | None = None
    texts: Texts = Texts()


@dataclass(slots=True)
class PromptReader(Reader):
    """steps: of the pass that the prompts are for."""

    steps: Steps

    def positive(self, sampler: Node, name: str) -> tuple[Texts, Node | None]:
        """The prompt and the node of its text. Empty texts and None where there is none."""
        parts = self._parts(sampler, name)
        if not parts:
            return Texts(), None
        chosen = _chosen(parts)
        if chosen is None:
            self.lost(parts[0].node, "the prompt is zeroed out.", "Its text is written.")
            return parts[0].texts, parts[0].node
        for part in parts:
            if part is not chosen:
                self._say_combined(part, chosen, "prompt")
        self._say_range(chosen, "the prompt", "reads it in all steps")
        if chosen.texts == Texts():
            self.lost(chosen.node, "the prompt is empty, which batchgen does not render.", "Write one.")
        return chosen.texts, chosen.node

    def negative(self, sampler: Node, name: str) -> tuple[Texts, float]:
        """The negative prompt, and negative_prompt_stop: from which share of the steps on zeros take its place."""
        parts = self._parts(sampler, name)
        chosen = _chosen(parts)
        stop = self._stop([part for part in parts if part.zeroed is not None], chosen)
        for part in parts:
            if part.zeroed is not None and stop == 1:
                self._say_zeroed(part, part.zeroed, chosen)
            elif part.zeroed is None and chosen is not None and part is not chosen:
                self._say_combined(part, chosen, "negative prompt")
        if chosen is None:
            return Texts(), stop
        if stop == 1:
            self._say_range(chosen, "the negative prompt", "guides against it in all steps")
        return chosen.texts, stop

    def _stop(self, zeroed: list[_Part], chosen: _Part | None) -> float:
        """Where all steps from one on have zeros, and those before it the text; 1 where it is not so."""
        steps = len(self.steps.noise)
        inside = self.steps.within(zeroed[0].start, zeroed[0].end) if len(zeroed) == 1 else range(0)
        before = self.steps.within(chosen.start, chosen.end) if chosen else range(0)
        whole = bool(inside) and inside.stop == steps and before == range(inside.start)
        return shares.guidance(inside.start, steps) if whole else 1.0

    def _say_combined(self, part: _Part, chosen: _Part, what: str) -> None:
        self.lost(
            part.node,
            f"is combined with another {what}; batchgen reads one per image.",
            f"Only that of {chosen.node} is written: put what is missing into it.",
        )

    def _say_zeroed(self, part: _Part, zeroed: Node, chosen: _Part | None) -> None:
        instead, do = "the empty text", 'negative_prompt: "" is written, which is the nearest.'
        if chosen is not None:
            instead = "the negative prompt"
            do = 'The text is written; if it was meant for the first steps only, negative_prompt: "" is nearer.'
        self.lost(
            zeroed,
            f"guides against embeddings of zeros ({self.steps.in_words(part.start, part.end)}). batchgen guides "
            f"against {instead} there: colours and contrast differ.",
            do,
        )

    def _say_range(self, part: _Part, what: str, instead: str) -> None:
        if part.ranged is not None and len(self.steps.within(part.start, part.end)) < len(self.steps.noise):
            steps = self.steps.in_words(part.start, part.end)
            self.lost(part.ranged, f"{what} is read in {steps} only; batchgen {instead}.")

    def _parts(self, sampler: Node, name: str) -> list[_Part]:
        """All texts that a conditioning is made of, in the order of inputs."""
        parts: list[_Part] = []
        source = self.source(sampler, name)
        waiting = [_Part(*source)] if source else []
        seen: set[tuple[str, int, bool, bool]] = set()
        while waiting:
            part = waiting.pop(0)
            place = (part.node.id, part.slot, part.zeroed is None, part.ranged is None)
            if place in seen:
                continue
            seen.add(place)
            if part.node.kind in ("CLIPTextEncode", "CLIPTextEncodeSD3"):
                parts.append(replace(part, texts=self._texts(part.node)))
            else:
                waiting = self._behind(part) + waiting
        return parts

    def _behind(self, part: _Part) -> list[_Part]:
        """The conditionings that a node makes its own from."""
        node = part.node
        if node.kind == "ConditioningCombine":
            sources = [self.source(node, name) for name in ("conditioning_1", "conditioning_2")]
            return [replace(part, node=source[0], slot=source[1]) for source in sources if source]
        name = _input_behind(node, part.slot)
        if not name:
            self.wrong(node, "batchgen cannot read a prompt from it. Use CLIPTextEncode or CLIPTextEncodeSD3.")
            return []
        source = self.source(node, name)
        if source is None:
            return []
        behind = replace(part, node=source[0], slot=source[1])
        if node.kind == "ConditioningZeroOut":
            return [replace(behind, zeroed=part.zeroed or node)]
        if node.kind == "ConditioningSetTimestepRange":
            start, end = self.number(node, "start", 0.0, 0.0, 1.0), self.number(node, "end", 1.0, 0.0, 1.0)
            # the one nearest the sampler is what ComfyUI keeps: each sets the values anew
            return [behind if part.ranged is not None else replace(behind, start=start, end=end, ranged=node)]
        self.lost(node, "batchgen has nothing like it.", "The prompt behind it is read as if it were not there.")
        return [behind]

    def _texts(self, node: Node) -> Texts:
        if node.kind == "CLIPTextEncode":
            texts = [self._plain(node, "text")] * len(ENCODERS)
        else:
            texts = [self._plain(node, name) for name in ENCODERS]
        for name, text in zip(ENCODERS, texts, strict=True):
            if any(texts) and not text:
                self.lost(
                    node,
                    f"its {name} is empty and others are not; in batchgen an encoder without a text of its own reads "
                    "the first one.",
                    "Nothing is written for it.",
                )
        words = max(len(text.split()) for text in texts)
        if words > MANY_WORDS:
            self.lost(
                node,
                f"has {words} words. ComfyUI reads all; batchgen 77 tokens of CLIP and max_sequence_length of T5.",
                "batchgen plan says how many are cut; max_sequence_length: 256 lets T5 read more.",
            )
        return Texts(*texts)

    def _plain(self, node: Node, name: str) -> str:
        """A text without the marks that ComfyUI takes out of it."""
        text, marks = plain(self.text(node, name))
        if marks:
            self.lost(
                node,
                f"{name} holds {', '.join(marks)}; batchgen gives every word the same weight.",
                "The words are written without the marks.",
            )
        return text.strip()


def _chosen(parts: list[_Part]) -> _Part | None:
    """The first text that is not zeroed out."""
    return next((part for part in parts if part.zeroed is None), None)


def _input_behind(node: Node, slot: int) -> str:
    """Of a node that changes a conditioning, or a positive and a negative one together, the input it takes."""
    links = node.links()
    if "positive" in links and "negative" in links:
        return "negative" if slot == 1 else "positive"
    return next((name for name in ("conditioning", "conditioning_to", "conditioning_1") if name in links), "")


EMBEDDING = re.compile(r"\bembedding:\S+")
CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")  # of which ComfyUI's page picks one before it runs
WEIGHT = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")
LONGEST = 32  # characters of a weight; nobody writes more
ESCAPED = re.compile(r"\\([()])")


def plain(text: str) -> tuple[str, list[str]]:
    """The text as its encoders read it, and the marks that were taken out, in words."""
    marks: list[str] = []
    without, weights = _without_weights(text)
    if weights:
        marks.append("weights in brackets")
    if EMBEDDING.search(without):
        marks.append("an embedding: (a file, which is left out)")
        without = EMBEDDING.sub("", without)
    if CHOICE.search(without):
        marks.append("a choice in braces (all of it stays)")
    return without, marks


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
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for at, char in enumerate(text):
        if char not in "()" or (at and text[at - 1] == "\\"):
            continue
        if char == "(":
            opened.append(at)
        elif opened:
            pairs.append((opened.pop(), at))
    return pairs
