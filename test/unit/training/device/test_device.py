"""What every device must answer; run on another one with OPENCLIP_TEST_DEVICE."""

import os

import pytest
import torch

from device_under_test import device_under_test

DEVICE, TORCH_DEVICE = device_under_test()


def test_info_is_plain_and_named():
    info = DEVICE.info()
    assert info.kind == DEVICE.kind
    assert info.name
    assert info.count == DEVICE.count() >= 1
    assert info.memory_bytes > 2**20
    assert all(isinstance(value, str) for value in info.versions.values())


def test_move_brings_a_tensor_over_whole():
    tensor = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    moved = DEVICE.move(tensor.pin_memory() if DEVICE.pin_memory else tensor)
    DEVICE.synchronize()
    assert moved.device.type == DEVICE.kind
    assert torch.equal(moved.cpu(), tensor)


def test_move_leaves_a_tensor_that_is_there():
    tensor = torch.ones(2, device=TORCH_DEVICE)
    assert DEVICE.move(tensor) is tensor


def test_memory_that_was_used_shows_in_the_peak():
    DEVICE.reset_peak_memory()
    tensor = torch.ones(2**21, device=TORCH_DEVICE)
    assert DEVICE.peak_memory_bytes() >= tensor.numel() * 4


def test_the_chosen_optimizer_options_work():
    weight = torch.nn.Parameter(torch.ones(4, device=TORCH_DEVICE))
    options = DEVICE.optimizer_options([weight])
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, **options).step()
    torch.testing.assert_close(weight.detach().cpu(), torch.full((4,), 0.9))


def test_parameters_that_no_fused_kernel_takes_get_another_implementation():
    integers = torch.zeros(2, dtype=torch.int64, device=TORCH_DEVICE)
    assert "fused" not in DEVICE.optimizer_options([integers])


def test_determinism_can_be_switched_on_and_off():
    DEVICE.set_deterministic(True)
    try:
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        DEVICE.set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("full")])
def test_out_of_memory_is_recognised(error):
    assert DEVICE.is_out_of_memory(error)


def test_another_error_is_not_taken_for_out_of_memory():
    assert not DEVICE.is_out_of_memory(RuntimeError("shape mismatch"))
    assert not DEVICE.is_out_of_memory(ValueError("out of memory lane"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_dtype_asked_for(dtype):
    if dtype is torch.bfloat16 and not DEVICE.supports_bf16():
        pytest.skip("this device has no bfloat16")
    layer = torch.nn.Linear(4, 4).to(TORCH_DEVICE)
    with torch.autocast(DEVICE.kind, dtype=dtype, enabled=dtype is not torch.float32):
        assert layer(torch.ones(2, 4, device=TORCH_DEVICE)).dtype is dtype


def test_numbers_on_the_device_are_read_later_as_they_were():
    values = torch.arange(3.0, device=TORCH_DEVICE)
    first = DEVICE.read_later(values)
    second = DEVICE.read_later(values + 1)
    assert first() == [0.0, 1.0, 2.0]
    assert second() == [1.0, 2.0, 3.0]


def test_a_copy_beside_the_work_is_whole_when_it_is_handed_over():
    copies = DEVICE.copy_stream()
    if copies is None:
        pytest.skip("this device has no copies that run beside its work")
    sources = [torch.arange(1000.0).pin_memory() + number for number in range(3)]
    totals = []
    for source in sources:
        with copies.copying() as arrived:
            moved = source.pin_memory().to(TORCH_DEVICE, non_blocking=True)
        copies.hand_over([moved], arrived)
        totals.append(moved.sum())
        # Its memory may serve the next copy from here on, but not before the sum is done.
        del moved
    assert [total.item() for total in totals] == [source.sum().item() for source in sources]


@pytest.mark.skipif("NPUSIM_RACES" not in os.environ, reason="only the simulated npu tells a race by an error")
def test_work_on_another_stream_that_did_not_wait_is_a_race_the_simulator_tells_of():
    other = torch.npu.Stream()
    with torch.npu.stream(other):
        made = torch.ones(3, device=TORCH_DEVICE)
    with pytest.raises(RuntimeError, match="did not wait"):
        made.sum()
    torch.npu.current_stream().wait_stream(other)
    total = made.sum()
    del made
    with torch.npu.stream(other), pytest.raises(RuntimeError, match="record_stream"):
        torch.ones(1, device=TORCH_DEVICE)
    assert total.item() == 3
