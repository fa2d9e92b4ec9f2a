"""Two ranks in one machine, forked from here: gradients as DDP's options send them."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from training.device import select_device
from training.distributed import DdpOptions, World, start_process_group, stop_process_group, unwrap_model, wrap_model


def gradients(model):
    torch.manual_seed(0)
    rows = torch.randn(8, 4)
    model(rows).square().mean().backward()
    return [parameter.grad.clone() for parameter in unwrap_model(model).parameters()]


def make_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.GELU(), torch.nn.Linear(16, 2))


# bfloat16 keeps 8 bits, fp16 11: a rounding each way and one in the sum.
OPTIONS = {
    "plain": (DdpOptions(), 1e-6),
    "static": (DdpOptions(static_graph=True, bucket_mb=1), 1e-6),
    "unused": (DdpOptions(find_unused=True), 1e-6),
    "bf16": (DdpOptions(comm_dtype="bf16"), 2**-7),
    "fp16": (DdpOptions(comm_dtype="fp16"), 2**-10),
}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    world = World(rank, rank, 2, 2)
    store = start_process_group(select_device("cpu"), world, init_method=f"file://{folder}/meet", timeout_s=60)
    store.set(f"note-{rank}", "here")
    assert store.get(f"note-{1 - rank}") == b"here"
    found = {}
    for name, (options, _) in OPTIONS.items():
        model = wrap_model(make_model(), torch.device("cpu"), world, options)
        found[name] = gradients(model)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    stop_process_group()
    os._exit(0)


@pytest.fixture(scope="module")
def found_by_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", OPTIONS)
def test_two_ranks_average_their_gradients_to_within_the_type_they_travel_in(found_by_rank, name):
    tolerance = OPTIONS[name][1]
    for mine, theirs, whole in zip(*(found[name] for found in found_by_rank), gradients(make_model()), strict=True):
        assert torch.equal(mine, theirs)
        assert (mine - whole).abs().max() <= tolerance * whole.abs().max()


def test_a_single_process_stays_as_it_is():
    model = make_model()
    assert start_process_group(select_device("cpu"), World()) is None
    assert wrap_model(model, torch.device("cpu"), World()) is model
