"""Cores really available: the affinity of the process, bounded by the limits of its control groups."""

import os

import pytest

from crossrank.engine.runtime import cores
from crossrank.engine.runtime.cores import available_cores

V2 = "30 23 0:26 {top} {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 {top} {at} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
OTHER = "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend a machine: its affinity, and the files that its kernel shows."""

    def pretend(affinity=8, groups=(), mounts=(), **files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
        monkeypatch.setattr(cores, "_ROOT", tmp_path)
        shown = {"proc/self/cgroup": "\n".join(groups), "proc/self/mountinfo": "\n".join(mounts)}
        for name, content in {**{name: content for name, content in shown.items() if content}, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")

    return pretend


def v2(groups):
    """Files of limits in version 2."""
    return {f"sys/fs/cgroup/{group}/cpu.max": limit for group, limit in groups.items()}


def v1(groups, folder="sys/fs/cgroup/cpu,cpuacct"):
    """Files of limits in version 1, of (quota, period)."""
    return {
        f"{folder}/{group}/cpu.cfs_{name}_us": value
        for group, limit in groups.items()
        for name, value in zip(("quota", "period"), limit, strict=True)
    }


AT_V2 = [OTHER, V2.format(top="/", at="/sys/fs/cgroup")]
AT_V1 = [V1.format(top="/", at="/sys/fs/cgroup/cpu,cpuacct"), OTHER]
UNIFIED = V2.format(top="/", at="/sys/fs/cgroup/unified")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("20000 100000", 1),
        ("1600000 100000", 8),
        ("garbage", 8),
        ("0 0", 8),
        ("-5 100000", 8),
    ],
)
def test_a_containers_limit_bounds_the_cores(machine, limit, expected):
    machine(groups=["0::/"], mounts=AT_V2, **v2({"": limit}))
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(("-1", "100000"), 8), (("300000", "100000"), 3), (("300000", "0"), 8), (("max", "100000"), 8)],
)
def test_a_limit_of_version_1_bounds_the_cores(machine, limit, expected):
    machine(groups=["4:memory:/", "3:cpu,cpuacct:/"], mounts=AT_V1, **v1({"": limit}))
    assert available_cores() == expected


UNIT = "system.slice/rerank.service"
DOCKER = "docker/0123abc"


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ({}, 8),
        ({"affinity": 3}, 3),
        ({"affinity": 2, **v2({"": "400000 100000"})}, 2),
        # A systemd unit, one in a slice that has the limit, and one where both have.
        ({"groups": [f"0::/{UNIT}"], "mounts": AT_V2, **v2({UNIT: "200000 100000"})}, 2),
        (
            {"groups": [f"0::/{UNIT}"], "mounts": AT_V2} | v2({"system.slice": "300000 100000", UNIT: "max 100000"}),
            3,
        ),
        (
            {"groups": [f"0::/{UNIT}"], "mounts": AT_V2}
            | v2({"": "700000 100000", "system.slice": "200000 100000", UNIT: "500000 100000"}),
            2,
        ),
        ({"groups": [f"0::/{UNIT}"], "mounts": AT_V2, **v2({"system.slice/other.service": "100000 100000"})}, 8),
        # A middle group without the file, as a controller that is not enabled leaves it.
        ({"groups": ["0::/a/b/c"], "mounts": AT_V2, **v2({"a": "200000 100000"})}, 2),
        # Version 1, with the limit at the process's group and above.
        (
            {"groups": [f"3:cpu,cpuacct:/{UNIT}", "2:cpuset:/x"], "mounts": AT_V1}
            | v1({"": ("-1", "100000"), "system.slice": ("400000", "100000"), UNIT: ("600000", "100000")}),
            4,
        ),
        # Both: version 2 is there for its processes only, or has a limit too.
        (
            {"groups": [f"3:cpuacct,cpu:/{UNIT}", f"0::/{UNIT}"], "mounts": [*AT_V1, UNIFIED]}
            | v1({UNIT: ("300000", "100000")}),
            3,
        ),
        (
            {"groups": [f"3:cpuacct,cpu:/{UNIT}", f"0::/{UNIT}"], "mounts": [*AT_V1, UNIFIED]}
            | v1({UNIT: ("300000", "100000")})
            | {f"sys/fs/cgroup/unified/{UNIT}/cpu.max": "200000 100000"},
            2,
        ),
        # A container that sees the host's names: its own group is what is mounted.
        (
            {"groups": [f"3:cpu,cpuacct:/{DOCKER}"]}
            | {"mounts": [V1.format(top=f"/{DOCKER}", at="/sys/fs/cgroup/cpu,cpuacct")]}
            | v1({"": ("200000", "100000")}),
            2,
        ),
        (
            {"groups": [f"0::/{DOCKER}/worker"], "mounts": [V2.format(top=f"/{DOCKER}", at="/sys/fs/cgroup")]}
            | v2({"": "400000 100000", "worker": "200000 100000"}),
            2,
        ),
        # A group that cannot be seen: what is mounted still limits.
        ({"groups": [f"0::/{DOCKER}"], "mounts": AT_V2, **v2({"": "200000 100000"})}, 2),
        ({"groups": ["0::/../other"], "mounts": AT_V2, **v2({"": "200000 100000", "other": "100000 100000"})}, 2),
        ({"groups": ["0::/a"], "mounts": [V2.format(top="/b", at="/sys/fs/cgroup")], **v2({"": "200000 100000"})}, 2),
        # No /proc, or one that says nothing of use: the usual places.
        (v2({"": "200000 100000"}), 2),
        (v1({"": ("200000", "100000")}, "sys/fs/cgroup/cpu"), 2),
        ({"groups": ["nonsense", "0:"], "mounts": ["nonsense - cgroup2", " - ", ""]} | v2({"": "200000 100000"}), 2),
        # A name with a space, as mountinfo writes it.
        (
            {"groups": ["0::/"], "mounts": [V2.format(top="/", at=r"/my\040groups")]}
            | {"my groups/cpu.max": "200000 100000"},
            2,
        ),
    ],
)
def test_the_least_limit_from_the_processs_group_up_counts(machine, situation, expected):
    machine(**situation)
    assert available_cores() == expected


def test_without_affinity_the_machines_cores_count(machine, monkeypatch):
    machine()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_here_it_is_at_least_one():
    assert 1 <= available_cores() <= os.cpu_count()
