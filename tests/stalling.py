"""Run by the two test_stall.py in a process of its own, because the watchdog ends Ray: argv is a job file."""

import sys

from rich.console import Console

from batchgen import cluster, plan, rendering
from batchgen.errors import BatchgenError
from batchgen.jobfile import load_job
from batchgen.preflight import prepare
from batchgen.progress import Display, Tally
from batchgen.watchdog import Patience

job = load_job(sys.argv[1])
prepared = prepare(job)
run = prepared.run or plan.make(prepared)[0]
patience = Patience(first_s=10.0, least_s=4.0, factor=1.0)
with Display(Tally(run.plans[0].images, 0, 0), Console(width=200)) as display, cluster.connected(job.cluster):
    try:
        rendering.render_missing(run, job, prepared.model_spec(), display, patience)
    except BatchgenError as error:
        print(error)
        sys.exit(error.exit_code)
