"""A model spread over several processes against the same model under DDP, and runs of the trainer with --fsdp."""

import pytest
import torch

from ranks import on_ranks
from spread_ranks import FEW_ROWS, spread_rank


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(tmp_path_factory, request):
    return on_ranks(spread_rank, request.param, tmp_path_factory.mktemp("spread"))


def test_losses_and_gradient_norms_are_those_of_ddp(ranks):
    for answers in ranks:
        (losses, norms), (spread_losses, spread_norms) = answers["ddp"], answers["fsdp"]
        torch.testing.assert_close(spread_losses, losses, rtol=1e-6, atol=0)
        # More than two parts are added up in another order than DDP's buckets.
        torch.testing.assert_close(spread_norms, norms, rtol=1e-6 if len(ranks) == 2 else 3e-6, atol=0)


def test_gathered_weights_and_optimizer_state_are_those_of_ddp(ranks):
    master, *others = ranks
    assert master["names"]
    assert list(master["fsdp weights"]) == list(master["ddp weights"])
    for name, value in master["ddp weights"].items():
        # Four ranks' gradients are added up in another order, and AdamW divides by what is left of small ones.
        torch.testing.assert_close(master["fsdp weights"][name], value, rtol=0, atol=1e-6 if len(ranks) == 2 else 3e-6)
    expected, found = master["ddp optimizer"], master["fsdp optimizer"]
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for number, state in expected["state"].items():
        for key, value in state.items():
            torch.testing.assert_close(found["state"][number][key], value, rtol=1e-4, atol=1e-7)
    assert all(not other["fsdp weights"] and not other["fsdp optimizer"] for other in others)


def test_each_rank_holds_its_share_of_parameters_and_optimizer_state(ranks):
    for answers in ranks:
        own, whole = answers["bytes"]
        assert own < 1.1 * whole / len(ranks)


def test_ranks_may_encode_different_numbers_of_batches_with_the_whole_model(ranks):
    for rank, answers in enumerate(ranks):
        assert len(answers["evaluated"]) == 2 * (rank + 1)
        torch.testing.assert_close(answers["evaluated"], answers["reference"], rtol=0, atol=1e-5)


def test_a_whole_state_loaded_on_every_rank_goes_on_as_the_run_it_was_saved_from(ranks):
    for answers in ranks:
        torch.testing.assert_close(answers["on after loading"], answers["on"], rtol=2e-6, atol=0)


def test_a_rank_that_holds_nothing_of_a_parameter_computes_nothing_on_it(ranks):
    for answers in ranks:
        norm, gradient, met_nothing = answers["few rows"]
        assert norm.item() == 5
        torch.testing.assert_close(gradient.float(), torch.tensor([[0.3, 0.4]]), rtol=1e-2, atol=0)
        assert met_nothing == []


def test_rows_that_are_not_trained_keep_their_bits_under_ddp_and_when_spread(ranks):
    for answers in ranks:
        start, ddp, fsdp = answers["trained rows"]
        others = torch.ones(len(start), dtype=torch.bool)
        others[FEW_ROWS] = False
        for table, gradient, moment in (ddp, fsdp):
            assert torch.equal(table[others], start[others])
            assert not gradient[others].any()
            assert not moment[others].any()
            # The row that no text holds is trained too: it decays.
            assert not torch.isclose(table[FEW_ROWS], start[FEW_ROWS], rtol=1e-5, atol=0).all(dim=1).any()
        torch.testing.assert_close(fsdp[0], ddp[0], rtol=0, atol=3e-6)


def test_gradients_added_up_before_the_reduction_are_those_reduced_one_by_one(ranks):
    for answers in ranks:
        together, apart = answers["accumulated"]
        assert together.keys() == apart.keys()
        assert "logit_scale" in together
        for name, gradient in apart.items():
            torch.testing.assert_close(together[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", ["resnet", "coca", "checkpointed"])
def test_every_kind_of_tower_computes_the_same_when_it_is_spread(ranks, kind):
    for answers in ranks:
        (outputs, gradient), (spread_outputs, spread_gradient) = answers[kind]
        for expected, found in zip(outputs, spread_outputs, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(spread_gradient, gradient, rtol=1e-4, atol=1e-7)


def test_bfloat16_parameters_give_float32_features_and_an_exact_scale(ranks):
    for answers in ranks:
        (outputs, _), (spread_outputs, gradient) = answers["bfloat16"]
        assert {tensor.dtype for tensor in (*spread_outputs, gradient)} == {torch.float32}
        assert torch.equal(outputs[2], spread_outputs[2])
        torch.testing.assert_close(spread_outputs[0], outputs[0], rtol=0, atol=0.02)


def test_a_nan_in_one_ranks_part_is_seen_by_all(ranks):
    assert all(answers["nan"].isnan() for answers in ranks)
