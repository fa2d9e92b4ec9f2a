import json

import pytest

from open_clip.errors import ConfigError
from training.distributed import World, world_from_environment

TABLE = {
    "version": "1.0",
    "server_count": "2",
    "status": "completed",
    "server_list": [
        {"server_id": "10.0.0.2", "device": [{"device_id": str(i), "rank_id": str(4 + i)} for i in range(2)]},
        {"server_id": "10.0.0.1", "device": [{"device_id": str(i), "rank_id": str(i)} for i in range(4)]},
    ],
}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(TABLE))
    return str(path)


def test_no_launcher_means_a_single_process():
    world = world_from_environment({})
    assert world == World()
    assert world.is_master
    assert not world.is_distributed
    assert world.launcher == ""


@pytest.mark.parametrize(
    "launcher,environ",
    [
        (
            "torchrun",
            {
                "RANK": "5",
                "LOCAL_RANK": "1",
                "WORLD_SIZE": "8",
                "LOCAL_WORLD_SIZE": "4",
                "TORCHELASTIC_RUN_ID": "none",
            },
        ),
        ("environment", {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}),
        (
            "slurm",
            {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"},
        ),
        (
            "openmpi",
            {
                "OMPI_COMM_WORLD_RANK": "5",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "8",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
            },
        ),
        ("intelmpi", {"PMI_RANK": "5", "MPI_LOCALRANKID": "1", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"}),
    ],
)
def test_each_launchers_variables_are_understood(launcher, environ):
    world = world_from_environment(environ)
    assert world == World(rank=5, local_rank=1, world_size=8, local_world_size=4)
    assert world.launcher == launcher


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"])
def test_a_slurm_shell_with_one_task_is_a_single_process(name):
    assert world_from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", name: "1"}) == World()


@pytest.mark.parametrize(
    "rank,node,expected", [(0, 0, 4), (5, 1, 4), (9, 2, 3)], ids=["first node", "its equal", "a smaller node"]
)
@pytest.mark.parametrize("name", ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"])
def test_slurm_nodes_of_different_sizes_are_told_apart(name, rank, node, expected):
    environ = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "1", "SLURM_NTASKS": "11", "SLURM_NODEID": str(node)}
    environ[name] = "4(x2),3"
    assert world_from_environment(environ).local_world_size == expected


def test_where_slurm_says_nothing_only_the_known_processes_count():
    environ = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
    assert world_from_environment(environ).local_world_size == 2


def test_processes_that_meet_on_this_machine_are_all_on_this_machine():
    environ = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "127.0.0.1"}
    assert world_from_environment(environ).local_world_size == 8
    assert world_from_environment({**environ, "MASTER_ADDR": "node1"}).local_world_size == 2


def test_mpirun_inside_a_slurm_script_is_not_taken_for_srun():
    script = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}
    open_mpi = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}
    assert world_from_environment({**script, **open_mpi}).rank == 3
    intel = {"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALRANKID": "3"}
    assert world_from_environment({**script, **intel}).rank == 3


def test_srun_with_pmi_keeps_slurms_local_rank():
    environ = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "PMI_RANK": "3", "PMI_SIZE": "8"}
    assert world_from_environment(environ).local_rank == 1


def test_an_ascend_rank_finds_its_server_and_card_in_the_rank_table(table):
    world = world_from_environment({"RANK_ID": "5", "RANK_SIZE": "6", "RANK_TABLE_FILE": table})
    assert world == World(rank=5, local_rank=1, world_size=6, local_world_size=2)
    assert (world.launcher, world.device_index) == ("ascend", 1)


def test_the_older_rank_table_counts_ranks_in_the_order_of_the_file(tmp_path):
    instances = [
        {"server_id": server, "devices": [{"device_id": "4"}, {"device_id": "5"}]}
        for server in ("10.0.0.1", "10.0.0.2")
    ]
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"status": "completed", "group_list": [{"instance_list": instances}]}))
    world = world_from_environment({"RANK_ID": "3", "RANK_TABLE_FILE": str(path)})
    assert world == World(rank=3, local_rank=1, world_size=4, local_world_size=2)
    assert world.device_index == 5


@pytest.mark.parametrize("name", ["DEVICE_ID", "ASCEND_DEVICE_ID"])
def test_without_a_rank_table_the_assigned_card_is_taken(name):
    world = world_from_environment({"RANK_ID": "1", "RANK_SIZE": "2", name: "6"})
    assert (world.rank, world.world_size, world.device_index) == (1, 2, 6)


def test_a_card_number_becomes_its_place_among_the_visible_ones():
    environ = {"RANK_ID": "1", "RANK_SIZE": "2", "DEVICE_ID": "6", "ASCEND_RT_VISIBLE_DEVICES": "4,6"}
    assert world_from_environment(environ).device_index == 1


def test_one_process_on_one_card_is_no_cluster():
    environ = {"RANK_ID": "0", "RANK_SIZE": "1", "DEVICE_ID": "0", "RANK_TABLE_FILE": "/absent/table.json"}
    assert world_from_environment(environ) == World()


def test_torchrun_wins_over_a_clusters_variables(table):
    environ = {"RANK_ID": "5", "RANK_TABLE_FILE": table, "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    assert world_from_environment(environ).world_size == 2


@pytest.mark.parametrize(
    "content,reason",
    [
        ("{", "cannot be read"),
        ("[]", "no rank table"),
        ('{"status": "initializing"}', "wait until"),
        ('{"server_list": [{"server_id": "a"}]}', "KeyError 'device'"),
        ('{"server_list": [{"server_id": "a", "device": [{"device_id": "0", "rank_id": "3"}]}]}', r"\[3\]"),
    ],
)
def test_a_rank_table_that_cannot_be_used_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason) as refusal:
        world_from_environment({"RANK_ID": "0", "RANK_TABLE_FILE": str(path)})
    assert "table.json" in str(refusal.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK_ID": "2", "RANK_SIZE": "2"},
        {"SLURM_PROCID": "9", "SLURM_NTASKS": "8"},
    ],
)
def test_impossible_ranks_are_refused(environ):
    with pytest.raises(ConfigError, match="RANK|SLURM_PROCID"):
        world_from_environment(environ)
