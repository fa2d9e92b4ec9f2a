import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_clip.errors import ConfigError
from open_clip.transformer.layout import bucket_shapes, can_skip_padding, plan_texts
from tiny_models import tiny_clip, tiny_coca

_LENGTHS = st.lists(st.integers(1, 77), min_size=1, max_size=300)


def _plan(lengths, shapes, context_length=77, **options):
    return plan_texts(torch.tensor(lengths), shapes=shapes, context_length=context_length, **options)


@settings(max_examples=60, deadline=None)
@given(_LENGTHS)
def test_a_packed_plan_holds_every_token_once_text_after_text(lengths):
    layout = _plan(lengths, "packed")
    held = list(zip(layout.token_rows.tolist(), layout.positions.tolist(), strict=True))
    assert sorted(held) == [(text, place) for text, length in enumerate(lengths) for place in range(length)]
    for text, length in enumerate(lengths):
        row = layout.order[text]
        assert layout.offsets[row + 1] - layout.offsets[row] == length
        assert held[layout.ends[row]] == (text, length - 1)
    assert sum(rows for rows, _ in layout.shapes) == len(lengths)
    assert layout.longest == max(lengths)


@settings(max_examples=60, deadline=None)
@given(_LENGTHS)
def test_a_bucketed_plan_gives_every_text_one_row_that_is_long_enough(lengths):
    layout = _plan(lengths, "bucketed")
    long_enough = [length for rows, length in layout.shapes for _ in range(rows)]
    assert len(long_enough) == len(layout.rows)
    for text, length in enumerate(lengths):
        row = layout.order[text]
        assert layout.rows[row] == layout.slots[row] == text
        assert layout.ends[row] == length - 1 < long_enough[row]
    dummies = [slot for slot in layout.slots.tolist() if slot == len(lengths)]
    assert len(dummies) == len(layout.rows) - len(lengths)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4096), st.integers(1, 200))
def test_bucket_shapes_are_at_most_four_and_reach_the_context_length(batch_size, context_length):
    shapes = bucket_shapes(context_length, batch_size)
    assert len(shapes) <= 4
    assert shapes[-1][1] == context_length
    assert all(1 <= rows <= batch_size for rows, _ in shapes)


def test_whatever_the_texts_at_most_four_shapes_occur():
    generator = torch.Generator().manual_seed(0)
    met = set()
    for longest in (3, 16, 17, 30, 40, 60, 77) * 5:
        lengths = torch.randint(2, longest + 1, (256,), generator=generator)
        met |= set(plan_texts(lengths, shapes="bucketed", context_length=77).shapes)
        last = plan_texts(lengths[:100], shapes="bucketed", context_length=77, batch_size=256)
        met |= set(last.shapes)
    assert met <= set(bucket_shapes(77, 256))


def test_buckets_compute_far_fewer_tokens_than_padding_does():
    lengths = torch.randint(8, 22, (1024,), generator=torch.Generator().manual_seed(0))
    layout = plan_texts(lengths, shapes="bucketed", context_length=77)
    assert sum(rows * length for rows, length in layout.shapes) < 1024 * 77 / 2.5


def test_a_remainder_moves_up_where_that_is_cheaper_than_a_run_of_its_own():
    layout = _plan([10] * 65 + [30] * 8, "bucketed", batch_size=256)
    assert layout.shapes == ((64, 16), (32, 32))


def test_padded_texts_have_no_plan():
    assert _plan([3, 4], "padded") is None
    assert _plan([], "packed") is None


@pytest.mark.parametrize("lengths", [[0, 3], [3, 78]])
def test_lengths_outside_the_context_are_refused(lengths):
    with pytest.raises(ConfigError, match=r"at least 1 and at most the context length, 77"):
        _plan(lengths, "packed")


def test_unknown_shapes_are_refused():
    with pytest.raises(ConfigError, match="packed, bucketed or padded"):
        _plan([3], "sorted")


def test_a_plan_moves_with_its_tensors():
    layout = _plan([3, 5, 3], "packed").to("meta")
    assert layout.shapes == ((2, 3), (1, 5))
    assert all(x.is_meta for x in layout if isinstance(x, torch.Tensor))


@pytest.mark.parametrize("custom_text", [False, True])
def test_a_causal_tower_read_at_its_last_token_can_skip_padding(custom_text):
    model = tiny_clip(custom_text=custom_text)
    assert can_skip_padding(model)
    assert can_skip_padding(torch.nn.DataParallel(model))


@pytest.mark.parametrize(
    "text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"output_tokens": True}, {"embed_cls": True}]
)
def test_other_towers_cannot(text):
    assert not can_skip_padding(tiny_clip(custom_text=True, text=text))


def test_coca_cannot():
    assert not can_skip_padding(tiny_coca())


def test_a_tower_with_a_hook_that_sees_all_positions_cannot():
    model = tiny_clip()
    handle = model.transformer.resblocks[0].register_forward_hook(lambda *_: None)
    assert not can_skip_padding(model)
    handle.remove()
    assert can_skip_padding(model)
