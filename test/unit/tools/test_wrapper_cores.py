"""How a machine's cores are shared among processes."""

from pathlib import Path

import pytest

from open_clip.errors import ConfigError
from wrapper_cores import format_cpu_list, parse_cpu_list, read_nodes, read_shares, share_cores


def write_machine(folder: Path, nodes: list[str], siblings: dict[int, str]) -> Path:
    """Describe a machine as the kernel does."""
    for number, cpus in enumerate(nodes):
        (folder / f"node/node{number}").mkdir(parents=True)
        (folder / f"node/node{number}/cpulist").write_text(f"{cpus}\n", encoding="ascii")
    for cpu, threads in siblings.items():
        topology = folder / f"cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{threads}\n", encoding="ascii")
    return folder


def test_eight_processes_on_four_nodes_get_half_a_node_each(tmp_path: Path) -> None:
    machine = write_machine(tmp_path, ["0-47", "48-95", "96-143", "144-191"], {})

    shares = share_cores(read_nodes(machine, range(192)), 8)

    assert [format_cpu_list(share) for share in shares[:3]] == ["0-23", "24-47", "48-71"]
    assert format_cpu_list(shares[7]) == "168-191"


def test_threads_of_one_core_stay_together(tmp_path: Path) -> None:
    machine = write_machine(tmp_path, ["0-3,8-11", "4-7,12-15"], {cpu: f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)})

    shares = share_cores(read_nodes(machine, range(16)), 4)

    assert [format_cpu_list(share) for share in shares] == ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]


def test_only_cores_that_may_be_used_are_shared_and_no_node_is_crossed(tmp_path: Path) -> None:
    machine = write_machine(tmp_path, ["0-7", "8-15"], {})

    shares = share_cores(read_nodes(machine, [1, 2, 5, 9, 10, 11, 12, 15]), 2)

    assert [format_cpu_list(share) for share in shares] == ["1-2,5", "9-12,15"]


def test_every_core_is_given_away_where_the_number_does_not_divide() -> None:
    shares = share_cores([[(cpu,) for cpu in range(10)]], 3)

    assert sorted(cpu for share in shares for cpu in share) == list(range(10))
    assert [len(share) for share in shares] == [3, 3, 4]


def test_threads_are_split_before_processes_share_one() -> None:
    assert share_cores([[(0, 2), (1, 3)]], 4) == [[0], [2], [1], [3]]


@pytest.mark.parametrize("ranks", [3, 8])
def test_fewer_cores_than_processes_are_shared_evenly(ranks: int) -> None:
    shares = share_cores([[(0,), (1,)]], ranks)

    assert all(len(share) == 1 for share in shares)
    assert {share[0] for share in shares} == {0, 1}
    assert abs(sum(share == [0] for share in shares) - sum(share == [1] for share in shares)) <= 1


def test_a_machine_that_says_nothing_is_one_node(tmp_path: Path) -> None:
    assert read_nodes(tmp_path / "none", [3, 0, 7]) == [[(0,), (3,), (7,)]]


@pytest.mark.parametrize(
    "text, cpus", [("3", [3]), ("0-3", [0, 1, 2, 3]), ("0-1,8", [0, 1, 8]), ("0-6:2,1", [0, 1, 2, 4, 6])]
)
def test_core_lists_are_read_as_taskset_reads_them(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("0-1", "1 lists for 2 processes"),
        ("0;1;2", "3 lists for 2 processes"),
        ("0;", 'holds ""'),
        ("0;3-1", 'holds "3-1"'),
        ("0;a", 'holds "a"'),
        ("0;0-9999999999", 'holds "0-9999999999"'),
        ("0;2-5", "names 4-5; the cores that may be used here are 0-3"),
    ],
)
def test_wrong_lists_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_shares(text, 2, range(4))


def test_lists_of_ones_own_may_be_irregular() -> None:
    assert read_shares("0,2;1,3", 2, range(4)) == [[0, 2], [1, 3]]
