import pytest
import torch

from open_clip.errors import CheckpointError
from training.optim import WeightAverage


def small_model():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    model[2].requires_grad_(False)
    return model


def change(model, amount):
    with torch.no_grad():
        model[0].weight += amount
        model[1].running_mean += amount
        model[1].num_batches_tracked += 1


def test_it_follows_its_formula_from_the_first_step():
    model = small_model()
    average = WeightAverage(model, 0.5)
    expected = model[0].weight.detach().clone()
    for step in range(20):
        change(model, 0.1 * (step + 1))
        decay = min(0.5, (1 + step) / (10 + step))
        assert average.decay_of_next_update() == decay
        average.update()
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    torch.testing.assert_close(average.state_dict()["0.weight"], expected)


def test_the_start_is_nearly_forgotten_after_ten_steps():
    model = small_model()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    average = WeightAverage(model, 0.9999)
    with torch.no_grad():
        model[0].weight.fill_(0.0)
    for _ in range(10):
        average.update()
    # The product of (1 + t) / (10 + t) for t below 10.
    assert average.state_dict()["0.weight"].max() < 1e-4


def test_frozen_weights_and_counters_are_the_models_own():
    model = small_model()
    average = WeightAverage(model, 0.9)
    change(model, 1.0)
    average.update()
    state = average.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert state["2.weight"].data_ptr() == model[2].weight.data_ptr()
    assert state["1.num_batches_tracked"] == 1
    assert not torch.equal(state["1.running_mean"], model[1].running_mean)


def test_the_models_own_weights_come_back_to_the_bit():
    model = small_model()
    average = WeightAverage(model, 0.9)
    change(model, 1.0)
    average.update()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with average.in_place():
        assert torch.equal(model[0].weight, average.state_dict()["0.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_half_precision_weights_are_averaged_in_fp32():
    model = torch.nn.Linear(4, 4).to(torch.bfloat16)
    average = WeightAverage(model, 0.9999)
    for _ in range(50_000):
        average.num_updates += 1
    start = average.state_dict()["weight"].clone()
    with torch.no_grad():
        model.weight += 1
    average.update()
    assert start.dtype == torch.float32
    assert (average.state_dict()["weight"] - start).abs().max() > 5e-5


def test_a_saved_average_goes_on_and_one_that_does_not_fit_is_refused():
    model, other = small_model(), small_model()
    first, second = WeightAverage(model, 0.9), WeightAverage(other, 0.9)
    change(model, 1.0)
    first.update()
    second.load_state_dict(first.state_dict(), first.num_updates)
    assert second.num_updates == 1
    assert torch.equal(second.state_dict()["0.weight"], first.state_dict()["0.weight"])
    with pytest.raises(CheckpointError, match=r"0\.weight"):
        second.load_state_dict({"0.weight": torch.zeros(1)}, 1)
    second.restart()
    assert second.num_updates == 0
    assert torch.equal(second.state_dict()["0.weight"], other[0].weight)


def test_a_model_whose_state_dict_shows_copies_is_followed():
    model = small_model()

    def show_copies(module, state, prefix, metadata):
        state.update({name: value.double() for name, value in state.items() if value.is_floating_point()})

    for module in model.modules():
        module._register_state_dict_hook(show_copies)
    average = WeightAverage(model, 0.5)
    change(model, 1.0)
    average.update()
    before = model[0].weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(model[0].weight, before - 0.1, rtol=0, atol=1e-6)
        torch.testing.assert_close(model[1].running_mean, torch.full((2,), 0.9))
    assert torch.equal(model[0].weight, before)
