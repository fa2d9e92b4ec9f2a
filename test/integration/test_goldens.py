"""Losses and weights of small runs are those that were recorded, to the bit; so are those of runs that are resumed."""

import json

import pytest

from goldens import CASES, EPOCH_STEPS, LOSSES, RECIPES, STEPS, machine, make_inputs, run_case, unpack_checkpoint

# The rest takes minutes: a checkpoint of each recipe goes on below.
_ALWAYS = ("clip-shards-npu-2-2", "coca-csv-cpu-1-2")
# Other processors and libraries round otherwise.
_FAR = 2e-4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Models, a table and shards that all cases train on."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def golden():
    """What was recorded."""
    return json.loads(LOSSES.read_text())


def _is_same(golden, case, found, first_step=0):
    losses, weights = found
    expected = golden["cases"][case]
    if golden["machine"] == machine():
        return list(losses.values()) == expected["losses"][first_step:] and weights == expected["weights"]
    return list(losses.values()) == pytest.approx(expected["losses"][first_step:], rel=_FAR)


@pytest.mark.parametrize(
    "case", [one if one in _ALWAYS else pytest.param(one, marks=pytest.mark.slow) for one in CASES]
)
def test_losses_and_weights_are_the_recorded_ones(golden, inputs, tmp_path, case):
    assert _is_same(golden, case, run_case(case, inputs, tmp_path))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_goes_on_from_a_kept_checkpoint_and_ends_as_if_it_had_not_stopped(golden, inputs, tmp_path, recipe):
    checkpoint = unpack_checkpoint(recipe, tmp_path)
    case = f"{recipe}-csv-cpu-1-1"
    found = run_case(case, inputs, tmp_path / "logs", resume=checkpoint)
    stopped_after = STEPS - len(found[0])
    assert EPOCH_STEPS < stopped_after < STEPS
    assert _is_same(golden, case, found, stopped_after)
