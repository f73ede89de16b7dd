"""How many processor cores this process may really use.

The kernel holds a process to the limit of its control group and of every group above it, so the least counts. Where the
groups are is in proc(5) and cgroups(7), what their files say in the kernel's admin-guide/cgroup-v2.rst ("cpu.max") and
scheduler/sched-bwc.rst ("cpu.cfs_quota_us", version 1).
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_USUAL_MOUNTS = (("/sys/fs/cgroup", 2), ("/sys/fs/cgroup/cpu", 1))
"""Where control groups are, if the kernel does not say; with their version."""


class _Mount(NamedTuple):
    """A hierarchy of control groups.

    Attributes:
        folder: of the topmost group that can be seen.
        top: name of that group within the hierarchy.
        version: 1 or 2.
    """

    folder: Path
    top: str
    version: int


def available_cores() -> int:
    """Cores of this process: its affinity, bounded by the CPU limits of its control groups, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for limit in _limits():
        cores = min(cores, int(limit + 0.5))
    return max(1, cores)


def _limits() -> Iterator[float]:
    """CPU limits in cores, of the process's control groups and of all above them, versions 1 and 2."""
    groups = _groups()
    for mount in _mounts():
        folder = mount.folder
        limits = [_limit(folder, mount.version)]
        for part in _parts_below(groups.get(mount.version, "/"), mount.top):
            folder /= part
            limits.append(_limit(folder, mount.version))
        yield from (limit for limit in limits if limit is not None)


def _groups() -> dict[int, str]:
    """The process's control group for CPU time in each version's hierarchy."""
    groups: dict[int, str] = {}
    for line in _lines("proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            groups[2] = group
        elif "cpu" in controllers.split(","):
            groups[1] = group
    return groups


def _mounts() -> list[_Mount]:
    """Where the hierarchies with CPU limits are mounted."""
    mounts = []
    for line in _lines("proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        mount, kind = before.split(" "), after.split(" ")
        if len(mount) > 4 and len(kind) > 2:  # noqa: PLR2004
            version = 2 if kind[0] == "cgroup2" else 1 if kind[0] == "cgroup" and "cpu" in kind[2].split(",") else None
            if version is not None:
                mounts.append(_Mount(_ROOT / _unescaped(mount[4]).lstrip("/"), _unescaped(mount[3]), version))
    return mounts or [_Mount(_ROOT / folder.lstrip("/"), "/", version) for folder, version in _USUAL_MOUNTS]


def _parts_below(group: str, top: str) -> tuple[str, ...]:
    """The folders from the topmost group that can be seen down to a group; none for one that is elsewhere."""
    path = PurePosixPath(group)
    if ".." in path.parts or not path.is_relative_to(top):
        return ()
    return path.relative_to(top).parts


def _limit(folder: Path, version: int) -> float | None:
    """The limit of one group in cores; None without one."""
    try:
        if version == 2:  # noqa: PLR2004
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        limit, per = int(quota), int(period)
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None
    return limit / per if limit > 0 and per > 0 else None


def _lines(name: str) -> list[str]:
    try:
        return (_ROOT / name).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(name: str) -> str:
    """A name of mountinfo, which writes spaces and the like as octal numbers."""
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        name = name.replace(escaped, character)
    return name
