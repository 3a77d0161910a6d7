"""What the samples of an export are, but for which: captions, format of the pictures, and what is written into them.

Knows options by their names on the command line; no run, no layout and no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from batchgen.errors import Refused
from batchgen.run.images import FORMATS, usual_quality
from batchgen.run.plans import Plan

VERSION = 1  # of what parts hold: raise it with every change of their bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As the command line says it. caption: a column or a template; None: the prompt. shard_size: images of a part."""

    caption: str | None = None
    image_format: str | None = None
    image_quality: int | None = None
    shard_size: int | None = None
    repeats: int | None = None
    mix_buckets: bool = False
    bare: bool = False

    def said(self) -> list[str]:
        """Names, as the command line has them, of what is asked."""
        return [one.name.replace("_", "-") for one in fields(self) if getattr(self, one.name) not in (None, False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the pictures of a run are written. stored: their format. encode: None where their bytes are kept."""

    stored: str
    image_format: str
    quality: int | None
    encode: bool
    bare: bool

    @classmethod
    def of(cls, options: Options, plan: Plan) -> Form:
        """Raises Refused for a format that there is not, and a quality that it does not have."""
        if options.image_format is not None and options.image_format not in FORMATS:
            raise Refused(f"--image-format {options.image_format}: write one of {', '.join(FORMATS)}.")
        output = plan.stored["output"]
        stored = str(output["image_format"])
        wanted, quality = options.image_format or stored, options.image_quality
        if quality is not None and usual_quality(wanted) is None:
            raise Refused(f"--image-quality {quality}: {wanted} loses nothing, so it has no quality. Leave it out.")
        if quality is not None and not 1 <= quality <= 100:
            raise Refused(f"--image-quality {quality}: write 1 to 100.")
        encode = wanted != stored or (quality is not None and quality != output.get("image_quality"))
        return cls(stored=stored, image_format=wanted, quality=quality, encode=encode, bare=options.bare)

    def notes(self, options: Options) -> Iterator[str]:
        """That nothing had to be done."""
        if not self.encode and (options.image_format or options.image_quality):
            yield f"pictures are {self.stored} already, and are kept as they are"

    @property
    def extension(self) -> str:
        return FORMATS[self.image_format].extension

    def deciding(self) -> dict[str, Any]:
        """For a digest."""
        return asdict(self) | {"version": VERSION}


def digits(count: int) -> int:
    """How many digits number this many things from 0, as img2dataset counts them."""
    return math.ceil(math.log10(count)) if count > 1 else 0
