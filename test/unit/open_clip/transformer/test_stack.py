import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer import CustomTransformer, Transformer
from open_clip.transformer.stack import take_indices


def test_indices_mean_all_the_last_n_or_a_list():
    assert take_indices(4, None) == [0, 1, 2, 3]
    assert take_indices(4, 2) == [2, 3]
    assert take_indices(4, [0, -1]) == [0, 3]


@pytest.mark.parametrize("indices", [0, 5, [4], [-5]])
def test_indices_outside_the_stack_are_refused(indices):
    with pytest.raises(ConfigError, match="blocks"):
        take_indices(4, indices)


def test_recomputing_blocks_changes_no_gradient():
    torch.manual_seed(0)
    stack, x = Transformer(16, 3, 2), torch.randn(2, 5, 16)
    stack(x, is_causal=True).sum().backward()
    expected = [parameter.grad.clone() for parameter in stack.parameters()]
    stack.zero_grad()
    stack.grad_checkpointing = True
    stack(x, is_causal=True).sum().backward()
    for parameter, gradient in zip(stack.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL's products keep their bits in other shapes")
@pytest.mark.parametrize("is_causal", [False, True])
def test_on_a_cpu_what_is_read_has_the_bits_that_it_has_among_the_rest(is_causal):
    torch.manual_seed(0)
    stack, x = Transformer(128, 3, 2), torch.randn(16, 50, 128)
    whole = stack(x, is_causal=is_causal)
    assert torch.equal(stack(x, is_causal=is_causal, read=0), whole[:, :1])
    at = torch.randint(50, (16,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(stack(x, is_causal=is_causal, read=at)[:, 0], whole[torch.arange(16), at])


def test_stopping_early_collects_the_same_and_runs_fewer_blocks():
    torch.manual_seed(0)
    stack, x = Transformer(16, 3, 2), torch.randn(2, 5, 16)
    last, collected = stack.forward_intermediates(x, indices=[0, 1], stop_early=True)
    full, also = stack.forward_intermediates(x, indices=[0, 1])
    assert torch.equal(last, collected[1])
    assert torch.equal(collected[0], also[0])
    assert torch.equal(full, stack(x))


def test_an_unknown_block_type_is_refused():
    with pytest.raises(ConfigError, match="'default' or 'custom'"):
        Transformer(16, 1, 2, block_type="fast")


def test_pruning_drops_the_blocks_behind():
    stack = Transformer(16, 4, 2)
    assert stack.prune_intermediate_layers([1]) == [1]
    assert len(stack.resblocks) == 2


def test_the_custom_stack_is_the_stack_of_custom_blocks_under_its_own_class():
    torch.manual_seed(0)
    custom = CustomTransformer(16, 2, 4)
    torch.manual_seed(0)
    same = Transformer(16, 2, 4, block_type="custom")
    assert custom.state_dict().keys() == same.state_dict().keys()
    x = torch.randn(1, 3, 16)
    assert torch.equal(custom(x), same(x))


@pytest.mark.parametrize("wrong", [{"block_types": "Plain"}, {"block_types": ["a"]}, {"batch_first": False}])
def test_the_custom_stack_refuses_what_it_is_not(wrong):
    with pytest.raises(ConfigError, match="block_types|batch_first"):
        CustomTransformer(16, 2, 4, **wrong)
