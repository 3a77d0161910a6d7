"""The one kernel that computes the attention of a run's images: the first renderer that begins says which, for all.

torch chooses by GPU, version and environment, and kernels differ in the last bits: without this, where a row is
rendered would decide its pixels. Knows names and the store; runs of before have none yet.
"""

from __future__ import annotations

import json

from batchgen.errors import Refused
from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store
from batchgen.words import visible

PATH = f"{HIDDEN}/attention.json"


def agree(store: Store, name: str | None, where: str) -> None:
    """name: of the kernel that a renderer computes with, None where it has no choice of one. where: the renderer.

    Raises Refused where the run has another.
    """
    if name is None or store.create(PATH, json.dumps({"attention": name, "first": where}).encode()):
        return
    there = json.loads(store.read(PATH))
    if there["attention"] == name:
        return
    raise Refused(
        f"{where} computes attention with {name}, and this run began with {visible(str(there['attention']))} on "
        f"{visible(str(there['first']))}: pixels would depend on where a row is rendered. Give its renderers the same "
        "kind of GPU and the same torch; or render into another directory, with model.attention naming a kernel that "
        f"all of them have. If the run has no images yet, removing {store}/{PATH} lets it begin anew."
    )
