import pytest

from open_clip.errors import ConfigError
from training.distributed import World, world_from_environment


def test_no_launcher_means_a_single_process():
    world = world_from_environment({})
    assert world == World()
    assert world.is_master
    assert not world.is_distributed


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
        {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"},
        {
            "OMPI_COMM_WORLD_RANK": "5",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_SIZE": "8",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        },
        {"PMI_RANK": "5", "MPI_LOCALRANKID": "1", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"},
    ],
)
def test_each_launchers_variables_are_understood(environ):
    assert world_from_environment(environ) == World(rank=5, local_rank=1, world_size=8, local_world_size=4)


def test_a_slurm_shell_with_one_task_is_a_single_process():
    assert world_from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}) == World()


@pytest.mark.parametrize("environ", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}])
def test_impossible_ranks_are_refused(environ):
    with pytest.raises(ConfigError, match="RANK"):
        world_from_environment(environ)
