import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer import AttentionalPooler, text_global_pool

TEXT = torch.tensor([[1, 9, 2, 2, 0], [3, 2, 9, 0, 0]])
FEATURES = torch.arange(10.0).reshape(2, 5, 1)


@pytest.mark.parametrize(
    "pool_type, expected", [("first", [0, 5]), ("last", [4, 9]), ("argmax", [1, 7]), ("eos", [2, 6])]
)
def test_each_pool_type_reads_its_position(pool_type, expected):
    assert text_global_pool(FEATURES, TEXT, pool_type, eos_token_id=2).flatten().tolist() == expected


def test_no_pooling_gives_everything():
    assert text_global_pool(FEATURES, TEXT, "none") is FEATURES


@pytest.mark.parametrize("pool_type", ["argmax", "eos", "mean"])
def test_a_pool_type_without_what_it_needs_is_refused(pool_type):
    with pytest.raises(ConfigError, match="pool_type"):
        text_global_pool(FEATURES, None, pool_type)


def test_a_pooler_reads_any_length_with_its_queries():
    pooler = AttentionalPooler(16, 8, n_head=2, n_queries=3)
    assert pooler(torch.randn(2, 11, 8)).shape == (2, 3, 16)
