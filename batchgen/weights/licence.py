"""The licence of a model, as its own files or its preset say it: named, linked and quoted. Gives no advice.

Reads what lies on this machine and asks no network. A plan keeps what was found, so that a card needs no weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS
from batchgen.run.found_model import FoundModel
from batchgen.words import redact, visible

_WORD = re.compile(r"[\w.+-]{1,80}")
OF_STABILITY = "stabilityai/stable-diffusion-3"  # how their repositories of SD3 and SD3.5 begin
SD3_PRESETS = frozenset(
    name for name, preset in PRESETS.items() if OF_STABILITY in preset.pretrained_model_name_or_path
)


@dataclass(frozen=True, slots=True)
class Licence:
    """id, name, link: as the front matter of a card on the hub has them; name and link of `other` only, or "".

    title: for people. short: of what it says, in one line. quotes: from its text.
    """

    id: str
    name: str = ""
    link: str = ""
    title: str = ""
    short: str = ""
    quotes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """As a plan keeps it: what it says is known by its name."""
        return {key: value for key, value in asdict(self).items() if key in ("id", "name", "link")}

    @property
    def line(self) -> str:
        """In one line, for people."""
        said = self.title or self.name or self.id
        return f"{said}{f' ({self.link})' if self.link else ''}{f': {self.short}' if self.short else ''}"


UNKNOWN = Licence("unknown", short="neither its files here nor its preset say it: look where the weights come from")
COMMUNITY = Licence(
    "other",
    "stabilityai-ai-community",
    "https://stability.ai/community-license-agreement",
    "Stability AI Community License Agreement",
    "free commercial use below US$ 1M of annual revenue; neither model nor outputs may create or improve a "
    "foundational generative AI model other than Stability's and derivatives; an acceptable-use policy",
    (  # of July 5, 2024
        'Free access is preserved "for people or organizations generating annual revenue of less than US $1,000,000".',
        '"You will not use the Stability AI Materials or Derivative Works, or any output or results of the Stability '
        "AI Materials or Derivative Works, to create or improve any foundational generative AI model (excluding the "
        'Models or Derivative Works)."',
        'Use, "including any output or results", must "adhere to the Documentation and Stability AI\'s AUP, which is '
        'hereby incorporated by reference": https://stability.ai/use-policy',
        '"As between You and Stability AI, You own any outputs generated from the Models or Derivative Works to the '
        'extent permitted by applicable law."',
    ),
)
OWN = Licence("apache-2.0", short="batchgen's own, that of the checkpoint that comes along")


def find_licence(model: Model, found: FoundModel) -> Licence:
    """What is known of the weights that a job names: by their own files first, then by their name and preset."""
    if model.preset == "fake" or found.path == str(DEMO_CHECKPOINT):
        return OWN
    if said := _of_files(found):
        return said
    return COMMUNITY if model.preset in SD3_PRESETS or found.path.startswith(OF_STABILITY) else UNKNOWN


def known_licence(found: FoundModel, preset: str) -> Licence:
    """What a plan says; of one that was made before plans said it, what its name and preset tell."""
    said = found.licence
    if said is None:
        if preset in ("fake", "demo"):
            return OWN
        return COMMUNITY if preset in SD3_PRESETS or found.path.startswith(OF_STABILITY) else UNKNOWN
    for one in (COMMUNITY, UNKNOWN, OWN):
        if said == one.to_dict():
            return one
    return Licence(said.get("id", UNKNOWN.id), said.get("name", ""), said.get("link", ""))


def _of_files(found: FoundModel) -> Licence | None:
    """By the card beside the weights, or a file LICENSE there; None where they say nothing."""
    card = _card_of(found)
    said = _front_matter(card) if card is not None else {}
    name, link = _word(said.get("license_name")), _link(said.get("license_link"), found)
    if name == COMMUNITY.name or any(base.startswith(OF_STABILITY) for base in _bases(said)):
        return COMMUNITY
    if said_id := _word(said.get("license")):
        return Licence(said_id, name, link) if said_id == "other" else Licence(said_id)
    directory = Path(found.path)
    if found.revision is None and directory.is_dir():
        for file in sorted(directory.glob("LICENSE*")):
            return Licence("other", f"see-{file.name}-beside-the-weights")
    return None


def _card_of(found: FoundModel) -> Path | None:
    """README.md of the weights, if it lies here: in their directory, or in the hub's cache."""
    if found.revision is None:
        card = Path(found.path) / "README.md"
        return card if "://" not in found.path and card.is_file() else None
    from huggingface_hub import try_to_load_from_cache  # slow to import, and only needed here

    cached = try_to_load_from_cache(found.path, "README.md", revision=found.revision)
    return Path(cached) if isinstance(cached, str) else None


def _front_matter(card: Path) -> Mapping[str, Any]:
    """Of a card that somebody else wrote: empty where it has none, or none that can be read."""
    begin, front = (*card.read_text(encoding="utf-8", errors="replace").split("---\n", 2), "")[:2]
    try:
        said = yaml.safe_load(front) if not begin.strip() else None
    except yaml.YAMLError:
        return {}
    return said if isinstance(said, dict) else {}


def _bases(said: Mapping[str, Any]) -> list[str]:
    """The models that this one is derived from."""
    base = said.get("base_model") or []
    return [str(one) for one in (base if isinstance(base, list) else [base])]


def _word(value: object) -> str:
    """A name as the hub has them, or "": it will stand in a card of ours."""
    text = value[0] if isinstance(value, list) and value else value
    return text if isinstance(text, str) and _WORD.fullmatch(text) else ""


def _link(value: object, found: FoundModel) -> str:
    if not isinstance(value, str) or not value or len(value) > 300:
        return ""
    if value.startswith(("https://", "http://")):
        return visible(redact(value)).replace(" ", "%20")
    return f"https://huggingface.co/{found.path}/blob/main/{visible(value)}" if found.revision else ""
