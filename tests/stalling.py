"""Run by the two test_stall.py in a process of its own, because the watchdog ends Ray.

Arguments: a job file; for how many seconds the first receipt of a session is waited for.
"""

import sys

from rich.console import Console

from batchgen.cluster.connection import connected
from batchgen.cluster.watchdog import Patience
from batchgen.errors import BatchgenError
from batchgen.job.file import load_job
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering import graph
from batchgen.rendering.progress import Display, Tally

original = graph.in_order
graph.in_order = lambda shards, order: original(shards)  # the same in every session, so that tests know which is first
job = load_job(sys.argv[1])
prepared = prepare(job)
run = prepared.run or make_plan(prepared)[0]
patience = Patience(first_s=float(sys.argv[2]), least_s=8.0, factor=0.1)
with Display(Tally(run.plans[0].images, 0, 0), Console(width=200)) as display, connected(job.cluster):
    try:
        graph.render_missing(run, job, prepared.model, display, patience)
    except BatchgenError as error:
        print(error)
        sys.exit(error.exit_code)
