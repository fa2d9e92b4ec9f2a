import os

import pytest

from training.data.cores import usable_cores, usable_workers

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files,cores",
    [
        ({}, HERE),
        ({"cpu.max": "max 100000"}, HERE),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, min(HERE, 64)),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "max 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, HERE),
        ({"cpu/cpu.cfs_quota_us": "90000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "nonsense"}, HERE),
        ({"cpu.max": "0 0"}, HERE),
    ],
)
def test_cores_are_those_of_affinity_and_quota(files, cores, tmp_path):
    own = tmp_path / "own"
    own.write_text("3:cpu:/x\n0::/a/b\n")
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert usable_cores(tmp_path / "groups", own) == cores


def test_no_more_workers_than_cores_and_none_where_none_are_asked_for():
    assert usable_workers(0) == 0
    assert usable_workers(1) == 1
    assert usable_workers(10_000) == usable_cores()
