"""The state at the end of a step is what is saved, whatever training does to it meanwhile."""

import copy
import threading

import pytest
import torch

from checkpoint_faults import small_payload
from open_clip.errors import CheckpointError
from runs import assert_same_state
from training.checkpoint import Background, Keeper, Snapshot, collect, write_checkpoint
from training.device import select_device


@pytest.fixture
def snapshot():
    return Snapshot(select_device("cpu"))


def change_in_place(value):
    if isinstance(value, torch.Tensor):
        value.add_(1)
    elif isinstance(value, dict):
        for item in value.values():
            change_in_place(item)


def test_a_snapshot_does_not_follow_the_training(snapshot):
    payload = small_payload(1, 5)
    before = copy.deepcopy(payload)
    taken = snapshot.take(payload)
    change_in_place(payload)
    payload["optimizer"]["param_groups"][0]["lr"] = 9.0
    assert_same_state(taken, before)


def test_its_memory_is_used_again_and_changed_shapes_are_no_obstacle(snapshot):
    first = snapshot.take(small_payload(1))["state_dict"]["text.w"].data_ptr()
    second = snapshot.take(small_payload(2))
    assert second["state_dict"]["text.w"].data_ptr() == first
    assert_same_state(second, small_payload(2))
    assert_same_state(snapshot.take(small_payload(3, size=7)), small_payload(3, size=7))
    assert_same_state(snapshot.take(small_payload(4)), small_payload(4))


def test_the_file_of_a_snapshot_is_that_of_the_state_itself(snapshot, tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    payload = {"state_dict": {"a": weight, "tied": weight, "turned": torch.rand(4, 3).t(), "none": torch.empty(0)}}
    payload |= {"half": torch.ones(3, dtype=torch.bfloat16), "nested": [1, (2, "x"), None], "flag": torch.tensor(True)}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_checkpoint(payload, tmp_path / "a" / "epoch_1.pt")
    write_checkpoint(snapshot.take(payload), tmp_path / "b" / "epoch_1.pt")
    assert (tmp_path / "a" / "epoch_1.pt").read_bytes() == (tmp_path / "b" / "epoch_1.pt").read_bytes()


def test_the_result_comes_once_and_only_when_it_is_there():
    background, go_on = Background(), threading.Event()
    assert background.take(wait=True) is None
    background.start(lambda: go_on.wait(10))
    assert background.take(wait=False) is None
    go_on.set()
    assert background.take(wait=True) is True
    assert background.take(wait=True) is None


def test_a_failure_is_raised_where_the_result_is_taken_and_the_next_work_runs(tmp_path):
    background, keeper = Background(), Keeper(tmp_path)
    background.start(lambda: keeper.save_epoch({"epoch": "no/such/folder"}))
    with pytest.raises(CheckpointError, match="No such file"):
        background.take(wait=True)
    background.start(lambda: keeper.save_epoch(small_payload(1)))
    assert background.take(wait=True).path == tmp_path / "epoch_1.pt"


def test_a_sum_that_overflows_is_not_taken_for_a_weight_that_does():
    from training.checkpoint.payload import refuse_nonfinite

    large = {"w": torch.full((4,), 3e38), "integers": torch.ones(2, dtype=torch.int64)}
    refuse_nonfinite(large, CheckpointError, "refused")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match=r"refused: v\."):
            refuse_nonfinite({**large, "v": torch.tensor([1.0, bad])}, CheckpointError, "refused")


def test_further_entries_stand_beside_the_state_and_replace_nothing():
    from training.checkpoint import Order, RunState, Trained
    from training.device import make_mixed_precision, resolve_precision
    from training.distributed import World

    device = select_device("cpu")
    model = torch.nn.Linear(2, 2)
    mixed = make_mixed_precision(resolve_precision("fp32", device), device, torch.device("cpu"), None)
    trained = Trained(model, torch.optim.AdamW(model.parameters()), mixed, device, World(0, 0, 1, 1))
    progress = {"epoch": 1, "step": 2, "samples_seen": 3}
    payload = collect(RunState(trained, progress, Order(0, 8, 80), "run", {"teacher": model.state_dict()}))
    assert payload["teacher"].keys() == payload["state_dict"].keys()
    with pytest.raises(AssertionError):
        collect(RunState(trained, progress, Order(0, 8, 80), "run", {"epoch": 3}))
