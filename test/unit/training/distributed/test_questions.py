from types import SimpleNamespace

from training.distributed import is_master, is_using_distributed, world_info_from_env


def test_the_first_of_all_and_the_first_of_a_machine_are_masters():
    args = SimpleNamespace(rank=8, local_rank=0)
    assert not is_master(args)
    assert is_master(args, local=True)
    assert is_master(SimpleNamespace(rank=0, local_rank=0))


def test_the_launchers_variables_are_read(monkeypatch):
    for name, value in (("LOCAL_RANK", "1"), ("RANK", "5"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert world_info_from_env() == (1, 5, 8)
    assert is_using_distributed()
