"""What makes a run this run: the facts that its fingerprint is taken over, and which of them may change later.

Never paths, credentials, error policies or the cluster: the same job elsewhere is the same run. Knows the names that
people read when two runs differ; does not know how a fact is found out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from batchgen.job import LOOP


def _says(label: str, *, extensible: bool = False, optional: bool = False) -> dict[str, Any]:
    """label: the name in a plan, `sampling.*` for one fact of each key. extensible: may differ in an extension.

    optional: left out where it is None, so that runs from before it existed keep their fingerprint.
    """
    return {"label": label, "extensible": extensible, "optional": optional}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts by name. loop: keys of `sampling` that are one value for all generations; sampling: its other keys.

    rules: of run.rules, those that the run keeps. limit: of a preview. adopted: of images that were made elsewhere.
    unknown: facts that another version wrote into a plan.
    """

    identity: int = field(metadata=_says("identity"))
    manifest: str = field(metadata=_says("input (content of the manifest)", extensible=True))
    columns: dict[str, str] = field(metadata=_says("input.columns"))
    keep_columns: list[str] | None = field(metadata=_says("input.keep_columns"))
    model: str = field(metadata=_says("model (digest of its files)"))
    dtype: str = field(metadata=_says("model.dtype"))
    batch_size: int | str = field(metadata=_says("model.batch_size"))
    refiner: str | None = field(metadata=_says("refine.model (digest of its files)"))
    deciding: dict[str, Any] = field(metadata=_says("model (other settings), refine"))
    image_format: str = field(metadata=_says("output.image_format"))
    image_quality: int | None = field(metadata=_says("output.image_quality", optional=True))
    adapters: dict[str, Any] = field(metadata=_says("model.adapters.*"))
    loop: dict[str, Any] = field(metadata=_says("sampling.*"))
    sampling: dict[str, Any] = field(metadata=_says("sampling.*", extensible=True))
    sweep: dict[str, Any] = field(metadata=_says("sweep.*", extensible=True))
    rules: dict[str, int] = field(default_factory=dict, metadata=_says("rules.*"))
    limit: int | None = field(default=None, metadata=_says("--limit", optional=True))
    adopted: str | None = field(default=None, metadata=_says("adopted (content of the images)", optional=True))
    unknown: dict[str, Any] = field(default_factory=dict, metadata=_says("*"))

    def _each(self) -> Iterator[tuple[str, Any, bool]]:
        """(label, value, may an extension differ in it) of each fact."""
        for one in fields(self):
            label, value = one.metadata["label"], getattr(self, one.name)
            if label.endswith("*"):
                yield from ((f"{label[:-1]}{key}", item, one.metadata["extensible"]) for key, item in value.items())
            elif value is not None or not one.metadata["optional"]:
                yield label, value, one.metadata["extensible"]

    def to_dict(self) -> dict[str, Any]:
        """As a plan keeps them and the fingerprint is taken over them: label → value."""
        return {label: value for label, value, _ in self._each()}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """What to_dict() gave. A fact that is not there is None or empty; one that is not known is kept as it is."""
        values: dict[str, Any] = {}
        left = dict(said)
        for one in fields(cls):
            label = one.metadata["label"]
            if not label.endswith("*"):
                values[one.name] = left.pop(label, None)
                continue
            prefix = label[:-1]
            keys = [key for key in left if key.startswith(prefix)]
            if one.name == "loop":
                keys = [key for key in keys if key.removeprefix(prefix) in LOOP]
            values[one.name] = {key.removeprefix(prefix): left.pop(key) for key in keys}
        return cls(**values)

    def differing(self, other: Facts) -> list[str]:
        """Labels of what is not equal, sorted."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [label for label in sorted({*mine, *theirs}) if mine.get(label) != theirs.get(label)]

    def in_the_way(self, other: Facts) -> list[str]:
        """Labels of what differs and may not differ in an extension. That it only adds, its image_ids must show."""
        extensible = {label for facts in (self, other) for label, _, may_differ in facts._each() if may_differ}
        return [label for label in self.differing(other) if label not in extensible]

    def for_speed(self) -> tuple[Any, ...]:
        """What must be the same for a preview to say how fast a job will be."""
        steps = [self.loop.get(name) for name in ("guidance_start", "guidance_stop", "reuse")]
        return (self.model, self.dtype, self.deciding, self.refiner, *steps)
