"""Entry point for `ray job submit`: python jobs/render.py JOB.yaml is `batchgen render JOB.yaml`, options included."""

import sys

from batchgen.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "render")
    main()
