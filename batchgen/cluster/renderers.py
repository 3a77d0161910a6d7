"""How many renderers work at once: what the job says, or else as many as the machines can hold.

One for each GPU; without GPUs, as many as cores and memory allow. All of them start together. How many there are
changes no picture. Neither imports nor starts Ray.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.job import Cluster, Renderers

PROCESS = 1_500_000_000  # bytes of a process of torch, diffusers, Arrow and Ray beside weights: seen with the demo


@dataclass(frozen=True, slots=True)
class Room:
    """What a machine has, or what one renderer takes. memory: in bytes, of the CPU."""

    cpus: float
    gpus: float
    memory: float

    def holds(self, each: Room) -> int:
        """How many renderers that take so much. Where they have GPUs, memory is not counted: they use it to load."""
        counts = [self.cpus / each.cpus]
        counts.append(self.gpus / each.gpus if each.gpus else self.memory / each.memory)
        return int(min(counts) + 1e-9)  # 0.1 is not a tenth


def renderer_of(cluster: Cluster, gpus: float, weights: int) -> Room:
    """What one renderer takes. gpus: of it. weights: bytes of its model."""
    return Room(cluster.num_cpus, gpus, PROCESS + weights)


def this_machine() -> Room:
    """What is here, as Ray would find it: one CPU more than there are feeds the renderers."""
    gpus = Path("/proc/driver/nvidia/gpus")  # NVIDIA's driver has a folder for each
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(cores() + 1, len(list(gpus.iterdir())) if gpus.is_dir() else 0, free)


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settled(renderers: Renderers, machines: Sequence[Room], each: Room, shards: int) -> Renderers:
    """The sizes of a pool that a job did not say, by what machines hold; no more than shards that are to be rendered.

    A size that is larger than what there is waits for an autoscaler. One CPU feeds the renderers.
    """
    roomy = sorted(machines, key=lambda one: -one.cpus)
    if roomy:
        roomy[0] = replace(roomy[0], cpus=roomy[0].cpus - 1)
    present = max(1, sum(one.holds(each) for one in roomy))
    most = renderers.max_size or max(present, renderers.min_size or 1)
    least = renderers.min_size or min(most, present)
    return Renderers(min_size=min(least, shards), max_size=min(most, shards))
