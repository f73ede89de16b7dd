"""How many processor cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cores() -> int:
    """Cores of this process: its affinity, bounded by the container's CPU limit, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _container_cores()
    if quota is not None:
        cores = min(cores, max(1, int(quota + 0.5)))
    return max(1, cores)


def _container_cores() -> float | None:
    """CPU limit of the control group (version 2, else 1), in cores; None without a limit."""
    try:
        quota, period = _CGROUP_V2.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = _CGROUP_V1_QUOTA.read_text(encoding="ascii").strip()
            period = _CGROUP_V1_PERIOD.read_text(encoding="ascii").strip()
        except OSError:
            return None
    try:
        limit, per = int(quota), int(period)
    except ValueError:  # "max": no limit
        return None
    return limit / per if limit > 0 and per > 0 else None
