import pytest

from open_clip.errors import ConfigError
from training.distributed.env import World
from training.distributed.meeting import meeting_variables
from training.distributed.relaunch import launch_words
from training.distributed.slurm import expand_counts, first_host

TWO_NODES = World(rank=5, local_rank=1, world_size=8, local_world_size=4, launcher="slurm")


@pytest.mark.parametrize(
    "short,first",
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-09,12],login", "gpu07"),
        ("rack[3,5]node[01-16]-ib", "rack3node01-ib"),
        ("a100-[2]", "a100-2"),
    ],
)
def test_the_first_host_of_a_slurm_list_is_named_without_scontrol(short, first):
    assert first_host(short) == first


@pytest.mark.parametrize(
    "short,counts", [("8", [8]), ("4(x2)", [4, 4]), ("4(x2),3", [4, 4, 3]), ("2,1(x3)", [2, 1, 1, 1]), ("", [])]
)
def test_slurms_counts_for_each_node_are_spelt_out(short, counts):
    assert expand_counts(short) == counts


def test_a_slurm_job_meets_on_its_first_node_at_a_port_of_its_own():
    environ = {"SLURM_STEP_NODELIST": "n[3-4]", "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_JOB_ID": "1234567"}
    found = meeting_variables(TWO_NODES, environ)
    assert found == {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "n3", "MASTER_PORT": "24567"}


def test_what_the_launcher_said_stays():
    environ = {"MASTER_ADDR": "head", "MASTER_PORT": "1", "RANK": "5", "WORLD_SIZE": "8"}
    assert meeting_variables(TWO_NODES, environ) == {}


def test_one_machine_needs_no_address():
    world = World(rank=1, local_rank=1, world_size=2, local_world_size=2, launcher="openmpi")
    found = meeting_variables(world, {})
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("127.0.0.1", "29500")


def test_several_machines_without_an_address_are_refused_with_what_to_set():
    with pytest.raises(ConfigError, match="mpirun -x MASTER_ADDR=HOST"):
        meeting_variables(World(0, 0, 8, 4, "openmpi"), {})


@pytest.mark.parametrize(
    "world,environ,words",
    [
        (World(), {}, "python -m training.main"),
        (World(0, 0, 2, 2, "torchrun"), {}, "python -m torch.distributed.run --nproc_per_node 2 -m training.main"),
        (
            World(0, 0, 4, 2, "torchrun"),
            {
                "GROUP_WORLD_SIZE": "2",
                "MASTER_ADDR": "head",
                "MASTER_PORT": "29400",
                "TORCHELASTIC_MAX_RESTARTS": "3",
            },
            "python -m torch.distributed.run --max_restarts 3 --nnodes 2 --rdzv_backend c10d --rdzv_endpoint "
            "head:29400 --nproc_per_node 2 -m training.main "
            "(on each of the 2 nodes; --nproc_per_node is the node's own number)",
        ),
        (
            TWO_NODES,
            {"SLURM_NNODES": "2"},
            "srun --nodes 2 --ntasks 8 python -m training.main (in a job of the same nodes)",
        ),
        (World(0, 0, 8, 8, "openmpi"), {}, "mpirun -n 8 python -m training.main"),
        (World(0, 0, 8, 4, "intelmpi"), {}, "mpirun -n 8 -ppn 4 python -m training.main (on the same hosts)"),
        (
            World(0, 0, 8, 4, "ascend"),
            {},
            "python -m training.main (in each of the 8 processes, with the variables of this start)",
        ),
    ],
)
def test_each_launcher_gets_its_own_command_to_go_on(monkeypatch, world, environ, words):
    monkeypatch.setattr("sys.executable", "python")
    assert "".join(launch_words(world, environ)) == words
