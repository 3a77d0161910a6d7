"""Writes the CLIP vocabulary that batchgen carries, from the wheel of open_clip_torch. Run once; the result is in git.

pip download --no-deps --dest /tmp open_clip_torch==3.3.0
python jobs/clip_vocabulary.py /tmp/open_clip_torch-3.3.0-py3-none-any.whl
"""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "batchgen" / "weights" / "configs" / "sd3" / "clip_merges.txt.gz"
MERGES = 49152 - 256 - 2  # open_clip/tokenizer.py: of the file's 262,000, those that CLIP's 49,408 words are made of


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as files:
        lines = gzip.decompress(files.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode().split("\n")
        licence = next(name for name in files.namelist() if name.endswith("licenses/LICENSE"))
        TARGET.with_name("clip_merges.LICENSE").write_bytes(files.read(licence))
    merges = "\n".join(lines[1 : MERGES + 1]) + "\n"  # the first line is a comment
    TARGET.write_bytes(gzip.compress(merges.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
