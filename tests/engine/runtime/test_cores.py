"""Cores really available: the affinity of the process, bounded by its container."""

import os

import pytest

from crossrank.engine.runtime import cores
from crossrank.engine.runtime.cores import available_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend a machine: its affinity and the control group files that exist."""

    def pretend(affinity=8, v2=None, v1=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
        files = {"_CGROUP_V2": v2, "_CGROUP_V1_QUOTA": v1 and v1[0], "_CGROUP_V1_PERIOD": v1 and v1[1]}
        for name, content in files.items():
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_text(content)
            monkeypatch.setattr(cores, name, path)

    return pretend


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ({}, 8),
        ({"affinity": 3}, 3),
        ({"v2": "max 100000\n"}, 8),
        ({"v2": "200000 100000\n"}, 2),
        ({"v2": "150000 100000\n"}, 2),
        ({"v2": "20000 100000\n"}, 1),
        ({"v2": "1600000 100000\n"}, 8),
        ({"v2": "garbage"}, 8),
        ({"v2": "0 0\n"}, 8),
        ({"v1": ("-1\n", "100000\n")}, 8),
        ({"v1": ("300000\n", "100000\n")}, 3),
        ({"v1": ("300000\n", "0\n")}, 8),
        ({"v2": "400000 100000", "v1": ("100000", "100000")}, 4),
        ({"v2": "unreadable", "v1": ("200000", "100000")}, 2),
    ],
)
def test_cores_are_counted_as_the_process_may_use_them(machine, situation, expected):
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
