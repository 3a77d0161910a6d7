"""The session with Ray: joins a cluster or starts a private one, sets Ray Data up, and ends what it started.

Knows the `cluster` section of a job, and nothing of prompts, images or tasks. Starting a private cluster takes seconds:
who can do without Ray, because there is one manifest file or nothing to render, should not call it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Otherwise a thread of Ray that outlives our session would start a new cluster. Ray reads this when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
import ray.data
from ray.exceptions import RayError

from batchgen.cluster.environment import address
from batchgen.cluster.renderers import Room, cores, renderer_of, settled
from batchgen.cluster.watchdog import THREAD
from batchgen.errors import BatchgenError, Infrastructure
from batchgen.job import Cluster, Job

# Ray Data adds actors above this utilisation; its default, 1.75, is never reached with two tasks per actor of which
# two may run at once (ray 2.60, default_actor_autoscaler.py): there would never be more than min_size of them.
UPSCALING_UTILISATION = 0.9
SLOW_START = "timed out during startup"  # what ray 2.60 says then, in an exception of no type of its own


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """A Ray session: the one that exists, or a new one that ends with the block, also on SIGTERM."""
    if ray.is_initialized():
        _configure_ray_data()
        yield
        return
    _start(cluster)
    try:
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """End the session, and wait for Ray Data's threads to notice: a process that exits meanwhile would abort."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith(("StreamingExecutor", THREAD))]
    with _hushed("ray", "ray.data"):  # they log tracebacks about what was done on purpose
        ray.shutdown()
        for thread in ours:
            thread.join(timeout=10)


@contextmanager
def _hushed(*names: str) -> Iterator[None]:
    """Show nothing of what these loggers log meanwhile, nor errors that end a thread or that nobody can catch."""
    excepthook, threading.excepthook = threading.excepthook, lambda args: None
    unraisablehook, sys.unraisablehook = sys.unraisablehook, lambda args: None
    handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = excepthook, unraisablehook
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def restart(cluster: Cluster) -> None:
    """End this session with all its actors and begin another: the only cure for an actor that hangs."""
    _shut_down()
    _start(cluster)


def gpus_per_renderer(cluster: Cluster) -> float:
    """num_gpus of the job file; where it is silent, one if the cluster has GPUs and none otherwise."""
    if cluster.num_gpus is not None:
        return cluster.num_gpus
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def with_renderers(job: Job, weights: int, shards: int) -> Job:
    """The job with as many renderers as it says, or as the cluster holds now. weights: bytes that each one loads."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [Room(node.get("CPU", 0), node.get("GPU", 0), node.get("memory", 0)) for node in nodes]
    each = renderer_of(job.cluster, gpus_per_renderer(job.cluster), weights)
    return job.with_renderers(settled(job.cluster.renderers, machines, each, shards))


def explain(error: RayError) -> BatchgenError:
    """Our own error, without Ray's wrappers, if a task raised one; else Infrastructure with Ray's last line."""
    cause: BaseException | None = error
    while isinstance(cause, RayError) or (cause is not None and not isinstance(cause, BatchgenError)):
        cause = getattr(cause, "cause", None) or cause.__cause__  # Ray's wrapper is an instance of what it wraps, too
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return cause or Infrastructure(f"Ray ended the work: {lines[-1]}. Run the same command again.")


def check_room(job: Job) -> str | None:
    """Raises Infrastructure where renderers would never start, or would start on CPUs that were not meant.

    Ray itself would wait for ever, silently. Returns a note where a joined cluster is too small now, but may grow.
    """
    cluster = job.cluster
    if cluster.num_gpus is None and gpus_per_renderer(cluster) == 0 and address(cluster) and job.model.defaults.gpu:
        raise Infrastructure(
            f"The cluster shows no GPU, and {job.model.preset} is not meant for CPUs. Set cluster.num_gpus: 1 to wait "
            "for the autoscaler to bring one, or cluster.num_gpus: 0 to render on CPUs."
        )
    renderers, cpus = cluster.renderers.min_size or 1, ray.cluster_resources().get("CPU", 0)
    too_small = renderers * cluster.num_cpus > cpus - 1  # one is for the tasks that feed them
    if too_small and address(cluster):
        return f"waiting for CPUs: {renderers} renderers and one task need more than the {cpus:g} the cluster has now"
    if too_small:
        raise Infrastructure(
            f"{renderers} renderers of {cluster.num_cpus:g} CPU do not fit on this machine of {cores()}. Lower "
            "cluster.renderers.min_size or cluster.num_cpus."
        )
    resources = {"GPU": gpus_per_renderer(cluster), "CPU": cluster.num_cpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if address(cluster) or any(all(node.get(key, 0) >= amount for key, amount in resources.items()) for node in nodes):
        return None  # a joined cluster may grow by autoscaling
    raise Infrastructure(
        f"No node has {resources['GPU']:g} GPU and {resources['CPU']:g} CPU, which cluster.num_gpus and "
        "cluster.num_cpus ask for each renderer. Lower them."
    )


def _start(cluster: Cluster) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    # Ray prints an alarming line for every actor pool (ray #53727); what matters reaches us as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _muted_stderr():
            if joined := address(cluster):
                ray.init(address=joined, **quiet)
            else:
                # "local": an address file left behind by another cluster must not divert or break a laptop run.
                # One logical CPU more than there are: it feeds the renderers, which may take all the others.
                start_here(num_cpus=cores() + 1, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise Infrastructure(f"Ray could not be reached or started: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # ray.init puts its own in place
    _configure_ray_data()


def start_here(**options: Any) -> None:
    """Start a private cluster. Raises Infrastructure where its processes do not come up in three times Ray's 30 s."""
    for last in (False, False, True):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            _hide_token()
            return
        except Exception as error:
            ray.shutdown()
            if SLOW_START not in str(error):
                raise
            if last:
                raise Infrastructure(
                    "Ray's processes did not come up, three times. Run the same command again when this machine is "
                    "less busy."
                ) from error


def _hide_token() -> None:
    """The token that Ray makes for clusters of this user is for no other user's eyes; Ray writes it for all (2.60)."""
    with suppress(OSError):
        (Path.home() / ".ray" / "auth_token").chmod(0o600)


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Keep what Ray's C++ side writes to file descriptor 2 while it starts, and show it only if that fails."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as muted:
        os.dup2(muted.fileno(), 2)
        try:
            yield
        except BaseException:
            muted.seek(0)
            os.write(kept, muted.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _configure_ray_data() -> None:
    """The settings of Ray Data, in one place: never drop a block, never give up on a slow cluster."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = -1
    context.actor_init_retry_on_errors = False
    context.autoscaling_config.actor_pool_util_upscaling_threshold = UPSCALING_UTILISATION
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # "Progress bars disabled ...", and tracebacks of threads that outlive an interrupted session.
    for name in ("_internal.progress", "_internal.stats", "exceptions"):
        logging.getLogger(f"ray.data.{name}").setLevel(logging.CRITICAL)
