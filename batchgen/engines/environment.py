"""What torch reads from the environment when it loads, set before it does. What the user has set stays.

Knows names of variables only; imports no torch.
"""

from __future__ import annotations

import os
import tempfile

# Blocks of many sizes come and go in a run of many sizes of images; segments that cannot grow leave gaps between them
# that no batch fits into, and a batch that is split for want of memory has other pixels. torch before 2.9 reads the
# second name.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def prepare_for_torch() -> None:
    """Growing segments of a GPU's memory; and a folder on this node's disk for compiled kernels.

    All renderers of the node share it, so that each shape is compiled once there.
    """
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"
    os.environ.setdefault(CACHE, os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}"))
