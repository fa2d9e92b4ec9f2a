import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import open_clip
from open_clip.loss import ClipLoss
from scaling_devices import DEVICES, INDEX_BYTES, NEMO_G14
from scaling_model import (
    LOSS_MATRICES,
    Kinds,
    count_model,
    loss_bytes,
    save_interval,
    sent_bytes,
    state_bytes,
    time_step,
    wire_seconds,
)
from scaling_table import MODELS, PAGES, TABLES, choose_batch, figure, renew
from training.data.columns import ColumnBuilder
from training.data.shards.index import ShardIndex
from training.data.shards.order import ShardOrder

SMALL = "ViT-micro-8-32"
# Millions of parameters and billions of forward operations, image and caption.
KNOWN = {"ViT-B-32": (151.28, 8.8, 6.0), "ViT-L-14": (427.62, 162, 13.3), "ViT-H-14": (986.11, 335, 47)}


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_known_parameters_and_operations(name):
    model = count_model(name)
    parameters, image, caption = KNOWN[name]
    assert model.parameters / 1e6 == pytest.approx(parameters, abs=0.005)
    assert model.towers[0].operations / 1e9 == pytest.approx(image, rel=0.005)
    assert model.towers[1].operations / 1e9 == pytest.approx(caption, rel=0.01)


def small_step(batch, checkpointing=False):
    model = open_clip.create_model(SMALL)
    model.train()
    model.set_grad_checkpointing(checkpointing)
    # Towers leave out positions that nobody reads, but not where somebody looks; the formulas are for all of them.
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
    return model, torch.randn(batch, 3, 32, 32), torch.ones(batch, 16, dtype=torch.int64)


def kept_bytes(batch, checkpointing, dtype):
    """Bytes that a forward pass keeps for the backward pass, weights left out, each storage once."""
    model, images, texts = small_step(batch, checkpointing)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    enabled = dtype is not torch.float32
    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        outputs = model(images, texts)
    assert outputs
    return sum(size for size, _ in kept.values())


# A CPU's autocast leaves layer norms in the type that comes in: the caption's residual is fp32, the image's is not.
@pytest.mark.parametrize(
    "dtype, image, caption",
    [(torch.float32, Kinds(4, 4, 4), Kinds(4, 4, 4)), (torch.bfloat16, Kinds(2, 2, 2), Kinds(2, 4, 4))],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_sample_keeps_the_bytes_that_the_formula_says(dtype, image, caption, checkpointing):
    torch.set_num_threads(1)
    # The difference of two batches leaves out what does not grow with them, such as copies of the weights.
    measured = (kept_bytes(8, checkpointing, dtype) - kept_bytes(4, checkpointing, dtype)) / 4
    towers = count_model(SMALL).towers
    computed = sum(
        tower.saved_bytes(kinds, checkpointing) for tower, kinds in zip(towers, (image, caption), strict=True)
    )
    assert computed == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_takes_the_operations_that_the_formula_says(checkpointing):
    model, images, texts = small_step(4, checkpointing)
    # torch's counter does not know the CPU's fused attention. Images need no gradient: their first layer has one
    # product less, 16 patches of 3 x 8 x 8 times 64.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = model(images, texts)
        (features[0].sum() + features[1].sum()).backward()
    computed = count_model(SMALL).train_flops(checkpointing) - 2 * 16 * 192 * 64
    assert counter.get_total_flops() / 4 == pytest.approx(computed, rel=0.005)


@pytest.mark.filterwarnings("ignore:Module is None")
def test_the_loss_holds_as_many_matrices_as_the_formula_says():
    from torch.distributed._tools.mem_tracker import MemTracker

    rows, width = 1024, 8
    images, texts = (torch.randn(rows, width, requires_grad=True) for _ in range(2))
    with MemTracker() as tracker:
        ClipLoss()(images, texts, torch.tensor(10.0)).backward()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert peak / (rows * rows * 4) == pytest.approx(LOSS_MATRICES, rel=0.07)


def test_local_loss_takes_a_rank_its_share_of_the_matrices():
    model = count_model(SMALL)
    features = 4 * 64 * 32 * model.embed * 4
    whole, local = (loss_bytes(model, 32, 64, form) - features for form in ("global", "local"))
    assert whole == 64 * local


@pytest.mark.filterwarnings("ignore:Module is None")
def test_the_loss_by_tiles_holds_what_the_formula_says():
    from torch.distributed._tools.mem_tracker import MemTracker

    model, rows = count_model(SMALL), 1024
    images, texts = (torch.randn(rows, model.embed, requires_grad=True) for _ in range(2))
    with MemTracker() as tracker:
        ClipLoss(tile_rows=1024)(images, texts, torch.tensor(10.0)).backward()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert peak == pytest.approx(loss_bytes(model, rows, 1, "tiles"), rel=0.05)


def test_fsdp_spreads_what_ddp_repeats():
    model = count_model("ViT-B-32")
    assert state_bytes(model, 1, fsdp=True) == state_bytes(model, 1, fsdp=False)
    for part in ("weights", "gradients", "adamw"):
        assert state_bytes(model, 64, fsdp=True)[part] == state_bytes(model, 64, fsdp=False)[part] / 64


def test_one_rank_sends_nothing_and_bf16_gradients_are_half():
    model = count_model("ViT-B-32")
    assert set(sent_bytes(model, 8, 1).values()) == {0.0}
    assert sent_bytes(model, 8, 64, "ddp_bf16")["gradients"] == sent_bytes(model, 8, 64)["gradients"] / 2
    assert wire_seconds(1e9, 1, DEVICES[0]) == 0


def test_the_wire_is_as_slow_as_its_slowest_part():
    a100 = next(device for device in DEVICES if device.name.startswith("A100"))
    # In a node 300 GB/s, between nodes eight ports of 25; 80 % of either.
    assert wire_seconds(240e9, 8, a100, 0) == pytest.approx(1.0)
    assert wire_seconds(160e9, 64, a100, 0) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NEMO_G14)
def test_published_throughput_is_met_within_an_eighth(name):
    device = next(device for device in DEVICES if device.name == name)
    for number, published in enumerate(NEMO_G14[name]):
        found = time_step(count_model("ViT-g-14"), 64, 8 << number, device, False, "ddp").samples_per_s
        assert 1 <= round(found / published, 2) <= 1.125


def test_every_chosen_batch_fits_and_keeps_the_global_batch_in_bounds():
    for name in MODELS:
        for device in DEVICES:
            for ranks in (1, 64, 4096):
                batch, _ = choose_batch(count_model(name), ranks, device)
                assert 32 <= batch <= 1024
                assert batch * ranks <= 131_072


def test_intervals_between_saves_are_youngs_and_dalys():
    between, young, daly = save_interval(60, 1, failures_per_day=1)
    assert between == 86400
    assert young == pytest.approx(math.sqrt(2 * 60 * 86400))
    # Daly's correction, written out: sqrt(2 d M) (1 + sqrt(d / 2M) / 3 + d / 18M) - d.
    assert daly == pytest.approx(young * (1 + math.sqrt(60 / 172800) / 3 + 60 / (9 * 172800)) - 60)


def index_bytes(samples):
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    keys = ColumnBuilder()
    for number in range(samples):
        keys.append(f"{number:09d}")
    index = ShardIndex("shard.tar", keys.finish(), np.zeros((samples, 4), np.int64), np.arange(samples), ())
    del keys
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / len(index)


def order_mb(samples):
    tracemalloc.start()
    order = ShardOrder(np.full(samples // 10_000, 10_000, dtype=np.int64), seed=0, epoch=0)
    assert len(order[samples // 2 : samples // 2 + 4096]) == 4096
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def test_indexes_and_orders_take_the_memory_that_the_tables_say():
    assert index_bytes(10_000) == pytest.approx(INDEX_BYTES, abs=1)
    for samples in (10**6, 10**7, 10**8):
        assert order_mb(samples) < 5


def test_figures_keep_three_digits():
    assert [figure(value) for value in (0, 1234567.8, 99.96, 0.1234, 1.5e-7)] == [
        "0",
        "1,234,568",
        "100",
        "0.123",
        "1.5e-07",
    ]


@pytest.mark.parametrize("language", PAGES)
def test_the_pages_hold_the_tables_that_the_tool_writes(language):
    text = PAGES[language].read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->\n|" in text for name in TABLES)
    assert renew(text, language) == text, "run: python tools/scaling_table.py"
