"""Both stores save one state, a recipe's own parameters and the averages among it, and give the same back."""

import re
from pathlib import Path

import pytest
import torch

from open_clip.errors import CheckpointError, ConfigError, NumericsError
from training.checkpoint import FileStore, Keeper, Order, RunState, Trained, collect, read_verified, restore
from training.checkpoint.folder_store import FolderStore
from training.checkpoint.restore import restore_own
from training.checkpoint.schema import OWN_AVERAGE, OWN_WEIGHTS, check_payload
from training.device import make_mixed_precision, resolve_precision, select_device
from training.distributed import World
from training.export import export
from training.optim import WeightAverage

DEVICE, ORDER, WORLD = select_device("cpu"), Order(seed=0, global_batch=4, num_samples=8), World()


class Run:
    """A model, a head of its recipe and their averages, trained by one optimizer."""

    def __init__(self, seed=0, has_own=True, width=3):
        torch.manual_seed(seed)
        model, own = torch.nn.Linear(4, 3), torch.nn.Linear(width, 2) if has_own else None
        parameters = [*model.parameters(), *(own.parameters() if has_own else ())]
        mixed = make_mixed_precision(resolve_precision("fp32", DEVICE), DEVICE, torch.device("cpu"), None)
        own_average = WeightAverage(own, 0.9) if has_own else None
        optimizer = torch.optim.AdamW(parameters, lr=0.1)
        self.trained = Trained(model, optimizer, mixed, DEVICE, WORLD, own, WeightAverage(model, 0.9), own_average)

    def step(self):
        trained = self.trained
        loss = trained.own(torch.nn.functional.dropout(trained.model(torch.ones(5, 4)))).square().mean()
        trained.optimizer.zero_grad()
        loss.backward()
        trained.optimizer.step()
        trained.average.update()
        trained.own_average.update()

    def state(self, epoch=1, step=2):
        return RunState(self.trained, {"epoch": epoch, "step": step, "samples_seen": 8}, ORDER, "run")

    def values(self):
        trained = self.trained
        states = [trained.model.state_dict(), trained.own.state_dict()]
        states += [trained.average.state_dict(), trained.own_average.state_dict()]
        moments = trained.optimizer.state_dict()["state"]
        return [*(value for state in [*states, *moments.values()] for value in state.values())]


def are_equal(left, right):
    return len(left) == len(right) and all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


def file_store(folder):
    return FileStore(Keeper(folder), DEVICE)


def folder_store(folder):
    return FolderStore(folder, WORLD)


@pytest.fixture(params=[file_store, folder_store])
def store(request, tmp_path):
    return request.param(tmp_path / "checkpoints")


@pytest.mark.parametrize("wait", [True, False])
def test_a_run_that_is_put_back_goes_on_to_the_bit(store, wait):
    run = Run()
    run.step()
    saved = store.save(run.state(), epoch_end=True, keep=True, wait=wait) or store.take_written(wait=True)
    assert saved.path == store.newest
    assert store.take_written(wait=True) is None
    run.step()
    other = Run(seed=1)
    other.step()
    progress = restore(read_verified(saved.path), saved.path, other.trained, ORDER)
    assert progress == {"epoch": 1, "step": 2, "samples_seen": 8}
    other.step()
    assert are_equal(other.values(), run.values())
    assert other.trained.own_average.num_updates == 2


def test_what_is_written_beside_the_training_is_the_state_of_the_call(store):
    run = Run()
    run.step()
    expected = [value.clone() for value in run.values()]
    saved = store.save(run.state(), epoch_end=False, keep=True, wait=False)
    run.step()
    saved = saved or store.take_written(wait=True)
    other = Run(seed=1)
    restore(read_verified(saved.path), saved.path, other.trained, ORDER)
    assert are_equal(other.values(), expected)


def test_a_process_that_does_not_write_takes_part_and_has_nothing_to_tell():
    store = FileStore(None, DEVICE)
    run = Run()
    run.step()
    assert store.save(run.state(), epoch_end=True, keep=True, wait=True) is None
    assert store.newest is None
    with torch.no_grad():
        run.trained.model.bias[0] = float("nan")
    with pytest.raises(NumericsError):
        store.save(run.state(), epoch_end=True, keep=True, wait=True)


def test_a_folder_with_a_recipes_parameters_becomes_one_file(tmp_path):
    run = Run()
    run.step()
    saved = folder_store(tmp_path / "checkpoints").save(run.state(), epoch_end=True, keep=True, wait=True)
    export(saved.path, tmp_path / "one.pt")
    other = Run(seed=1)
    restore(read_verified(tmp_path / "one.pt"), tmp_path / "one.pt", other.trained, ORDER)
    assert are_equal(other.values(), run.values())


def test_a_recipe_without_parameters_writes_no_entries_for_them():
    payload = collect(Run(has_own=False).state())
    assert payload.keys().isdisjoint((OWN_WEIGHTS, OWN_AVERAGE))


def test_own_parameters_that_are_not_finite_are_never_saved(store):
    run = Run()
    run.step()
    with torch.no_grad():
        run.trained.own.bias[0] = float("inf")
    with pytest.raises(NumericsError, match=r"recipe's own.*bias"):
        store.save(run.state(), epoch_end=True, keep=True, wait=True)
    assert store.newest is None


PATH = Path("run.pt")
UNKNOWN = {"weight": torch.full((2, 3), torch.nan), "bias": torch.ones(2)}


def payload_of(run):
    run.step()
    return collect(run.state())


@pytest.mark.parametrize(
    "run, change, error, said",
    [
        (Run(has_own=False), {}, ConfigError, "holds parameters of a recipe"),
        (Run(), {OWN_WEIGHTS: None}, CheckpointError, "holds no parameters of the recipe"),
        (Run(width=5), {}, CheckpointError, re.escape("weight is (2, 3) in the file and (2, 5) in the model")),
        (
            Run(),
            {OWN_WEIGHTS: {"weight": torch.full((2, 3), torch.nan), "bias": torch.ones(2)}},
            CheckpointError,
            "fini",
        ),
    ],
)
def test_own_parameters_of_another_recipe_are_refused(run, change, error, said):
    payload = {key: value for key, value in (payload_of(Run()) | change).items() if value is not None}
    with pytest.raises(error, match=rf"run\.pt: .*{said}|{said}"):
        restore_own(run.trained.own, payload, PATH)


def test_weights_alone_leave_a_recipes_parameters_at_their_start(caplog):
    run = Run()
    before = [value.clone() for value in run.trained.own.parameters()]
    assert restore(Run(seed=1).trained.model.state_dict(), PATH, run.trained, ORDER) is None
    assert are_equal(list(run.trained.own.parameters()), before)
    assert "they begin anew" in caplog.text


@pytest.mark.parametrize("entry", [OWN_WEIGHTS, OWN_AVERAGE])
@pytest.mark.parametrize("value", [5, {"weight": 5}, {3: torch.ones(1)}])
def test_entries_of_another_kind_are_refused_by_name(entry, value):
    with pytest.raises(CheckpointError, match=rf"run\.pt: its entry {entry}"):
        check_payload({"state_dict": {}, entry: value}, PATH)
