"""Commands say what they have to say, and libraries that they load say nothing beside it."""

import subprocess
import sys

COMMAND = """
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.wanted import Wanted
make_scorer(Wanted("demo-clip")).load("cpu")
"""


def test_a_scorer_is_loaded_without_a_word():
    """In a process of its own: torchao, which transformers imports where it is installed, speaks once."""
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
