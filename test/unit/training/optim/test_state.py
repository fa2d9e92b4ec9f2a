"""A saved optimizer state is put back only if every tensor of it is what a step trusts it to be."""

import copy

import pytest
import torch

from open_clip.errors import CheckpointError
from training.device import select_device
from training.optim import build_optimizer, fit_optimizer_state, load_optimizer_state
from training.params import OptimParams

OPTIM = OptimParams(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-6, wd=0.2)


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Flatten(), torch.nn.Linear(4, 4))


def take_a_step(model, optimizer, seed=0):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(2, 3, 2, 2)).square().sum().backward()
    optimizer.step()


def trained(make=lambda model: build_optimizer(model, OPTIM, select_device("cpu"))):
    model = make_model()
    optimizer = make(model)
    for seed in range(3):
        take_a_step(model, optimizer, seed)
    return model, optimizer


def put_back(state, make=lambda model: build_optimizer(model, OPTIM, select_device("cpu"))):
    model = make_model()
    optimizer = make(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    load_optimizer_state(optimizer, fit_optimizer_state(optimizer, state, names))
    return model, optimizer


def assert_goes_on(model, optimizer, other, again):
    other.load_state_dict(model.state_dict())
    take_a_step(model, optimizer, 9)
    take_a_step(other, again, 9)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


MAKERS = {
    "fused": lambda model: torch.optim.AdamW(model.parameters(), fused=True),
    "foreach": lambda model: torch.optim.AdamW(model.parameters(), foreach=True),
    "amsgrad": lambda model: torch.optim.AdamW(model.parameters(), amsgrad=True),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "factored": lambda model: torch.optim.Adafactor(model.parameters()),
    "rms": lambda model: torch.optim.RMSprop(model.parameters(), momentum=0.5),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_sound_state_goes_on_bit_for_bit(kind):
    model, optimizer = trained(MAKERS[kind])
    assert_goes_on(model, optimizer, *put_back(copy.deepcopy(optimizer.state_dict()), MAKERS[kind]))


def test_a_sound_state_is_not_copied():
    state = trained()[1].state_dict()
    _, again = put_back(state)
    parameter = again.param_groups[1]["params"][0]
    number = state["param_groups"][1]["params"][0]
    assert again.state[parameter]["exp_avg"].data_ptr() == state["state"][number]["exp_avg"].data_ptr()


def test_states_of_another_layout_are_laid_out_as_their_parameters():
    model, optimizer = trained()
    state = copy.deepcopy(optimizer.state_dict())
    for moments in state["state"].values():
        for key in ("exp_avg", "exp_avg_sq"):
            if moments[key].dim() == 4:
                moments[key] = moments[key].contiguous(memory_format=torch.channels_last)
            else:
                # Part of a larger storage, as a slice is saved.
                moments[key] = torch.cat([moments[key].reshape(-1), torch.zeros(5)])[:-5].reshape(moments[key].shape)
    assert_goes_on(model, optimizer, *put_back(state))


def expanded(value):
    return torch.zeros(()).expand(value.shape)


TENSORS = {
    "one value": (lambda value: torch.zeros(1), r"exp_avg is \(1,\) in the file and \(4, 4\) in the model"),
    "flat": (lambda value: value.reshape(-1), r"exp_avg is \(16,\) in the file and \(4, 4\) in the model"),
    "transposed": (lambda value: value.t(), "not laid out"),
    "one value many times": (expanded, "not laid out"),
    "overlapping": (lambda value: torch.as_strided(torch.zeros(16), (4, 4), (1, 1)), "not laid out"),
    "whole numbers": (lambda value: value.long(), "int64"),
    "complex": (lambda value: value.to(torch.complex64), "complex64"),
    "eight bits": (lambda value: value.to(torch.float8_e4m3fn), "float8"),
    "sparse": (lambda value: value.to_sparse(), "not laid out"),
    "not a number": (lambda value: value * float("nan"), "not finite"),
    "infinite": (lambda value: value + float("inf"), "not finite"),
    "a list": (lambda value: value.tolist(), "a list and should be a tensor"),
    "a number": (lambda value: 0.5, "0.5 and should be a tensor"),
    "none": (lambda value: None, "should be a tensor"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_is_not_what_a_step_trusts_is_refused_by_its_name(kind):
    change, message = TENSORS[kind]
    state = copy.deepcopy(trained()[1].state_dict())
    moments = next(moments for moments in state["state"].values() if moments["exp_avg"].shape == (4, 4))
    moments["exp_avg"] = change(moments["exp_avg"])
    with pytest.raises(CheckpointError, match=rf"2\.weight: .*{message}"):
        put_back(state)


@pytest.mark.parametrize(
    "step",
    [torch.zeros(3), torch.tensor(5), torch.tensor(-1.0), torch.tensor(float("nan")), "7", -1, True, None, 2**70],
)
def test_a_step_that_is_no_count_is_refused(step):
    state = copy.deepcopy(trained()[1].state_dict())
    state["state"][0]["step"] = step
    with pytest.raises(CheckpointError, match="step"):
        put_back(state)


def test_variances_below_0_and_memory_that_is_shared_are_refused():
    state = copy.deepcopy(trained()[1].state_dict())
    state["state"][0]["exp_avg_sq"] -= 1
    with pytest.raises(CheckpointError, match="exp_avg_sq has values below 0"):
        put_back(state)
    state = copy.deepcopy(trained()[1].state_dict())
    state["state"][0]["exp_avg_sq"] = state["state"][0]["exp_avg"].abs_()
    with pytest.raises(CheckpointError, match="lies in the memory of another state"):
        put_back(state)


def test_halves_of_one_storage_get_storages_of_their_own():
    model, optimizer = trained()
    state = copy.deepcopy(optimizer.state_dict())
    for moments in state["state"].values():
        both = torch.stack([moments["exp_avg"], moments["exp_avg_sq"]])
        moments["exp_avg"], moments["exp_avg_sq"] = both
    assert_goes_on(model, optimizer, *put_back(state))


@pytest.mark.parametrize("kind", ["lacks", "has more", "of another optimizer"])
def test_states_of_other_names_are_refused(kind):
    state = copy.deepcopy(trained()[1].state_dict())
    if kind == "lacks":
        del state["state"][0]["exp_avg"]
    elif kind == "has more":
        state["state"][0]["\x1b[31mextra"] = torch.zeros(1)
    else:
        state = copy.deepcopy(trained(MAKERS["momentum"])[1].state_dict())
        state["param_groups"] = copy.deepcopy(trained()[1].state_dict()["param_groups"])
    with pytest.raises(CheckpointError) as caught:
        put_back(state)
    assert "\x1b" not in str(caught.value)


SETTINGS = {
    "lr": "fast",
    "betas": (0.9, float("nan")),
    "eps": None,
    "weight_decay": -1.0,
    "amsgrad": 3,
    "maximize": "yes",
    "fused": [1],
    "\x1b[31mnew": {"a": 1},
}


@pytest.mark.parametrize("key", SETTINGS)
def test_settings_of_other_kinds_are_refused(key):
    state = copy.deepcopy(trained()[1].state_dict())
    state["param_groups"][0][key] = SETTINGS[key]
    with pytest.raises(CheckpointError) as caught:
        put_back(state)
    assert "\x1b" not in str(caught.value)


def test_settings_that_an_older_torch_did_not_save_are_the_runs_own():
    state = copy.deepcopy(trained()[1].state_dict())
    for group in state["param_groups"]:
        for key in (
            "amsgrad",
            "foreach",
            "maximize",
            "capturable",
            "differentiable",
            "fused",
            "decoupled_weight_decay",
        ):
            group.pop(key, None)
    state["param_groups"][0]["initial_lr"] = 0.1
    assert_goes_on(*trained(), *put_back(state))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: None,
        lambda state: [state],
        lambda state: {**state, "state": []},
        lambda state: {**state, "state": {0: 5}},
        lambda state: {**state, "state": {99: state["state"][0]}},
        lambda state: {**state, "param_groups": {}},
        lambda state: {**state, "param_groups": state["param_groups"][:1]},
        lambda state: {**state, "param_groups": [{"lr": 0.1}, {"lr": 0.1}]},
        lambda state: {**state, "param_groups": [{"params": ["a", "b"]}, {"params": [2, 3]}]},
        lambda state: {**state, "param_groups": [{"params": [0, 0]}, {"params": [2, 3]}]},
        lambda state: {**state, "param_groups": [{"params": [0]}, {"params": [2, 3]}]},
        lambda state: {**state, "param_groups": [1, 2]},
    ],
)
def test_a_tree_of_another_form_is_refused(change):
    with pytest.raises(CheckpointError):
        put_back(change(copy.deepcopy(trained()[1].state_dict())))
