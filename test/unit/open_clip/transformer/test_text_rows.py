import pytest
import torch
import torch.distributed as dist

from open_clip.errors import ConfigError
from open_clip.transformer.layout import can_skip_padding, plan_texts
from open_clip.transformer.texts import Texts
from tiny_models import tiny_clip

_CONTEXT = 40
_EOT = 599
_BATCHES = {
    "mixed": [2, 9, 40, 17, 5, 5, 33, 16, 3],
    "one text": [7],
    "all of a length": [6, 6, 6, 6],
    "all full": [_CONTEXT] * 3,
    "all empty": [2, 2],
}


def _texts(lengths, width=_CONTEXT):
    generator = torch.Generator().manual_seed(3)
    text = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in zip(text, lengths, strict=True):
        row[:length] = torch.randint(2, 590, (length,), generator=generator)
        row[length - 1] = _EOT
    return text


def _model(custom_text=False, text=None, **config):
    sizes = {"context_length": _CONTEXT, "layers": 3} | (text or {})
    return tiny_clip(custom_text=custom_text, text=sizes, **config)


def _tower(model):
    return getattr(model, "text", model)


def _encode_all(model, text, normalize=True):
    """Encode every position, as if somebody looked on."""
    handle = _tower(model).ln_final.register_forward_hook(lambda *_: None)
    features = model.encode_text(text, normalize=normalize)
    handle.remove()
    return features


def _gradients(model, features):
    model.zero_grad()
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    (features * weights).sum().backward()
    names = [name for name, _ in model.named_parameters() if not name.startswith(("visual", "logit"))]
    return {name: dict(model.named_parameters())[name].grad for name in names}


def _assert_same(model, text, layout):
    expected = _encode_all(model, text)
    wanted = _gradients(model, expected)
    features = model.encode_text(Texts(text, layout=layout), normalize=True)
    torch.testing.assert_close(features, expected, atol=5e-7, rtol=0)
    for name, gradient in _gradients(model, features).items():
        bound = 5e-6 * wanted[name].abs().max().item() + 1e-12
        torch.testing.assert_close(gradient, wanted[name], atol=bound, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def _plan(lengths, shapes):
    return plan_texts(torch.tensor(lengths), shapes=shapes, context_length=_CONTEXT)


def _planned(lengths, shapes, width=_CONTEXT):
    return Texts(_texts(lengths, width), torch.tensor(lengths), _plan(lengths, shapes))


@pytest.mark.parametrize("lengths", _BATCHES.values(), ids=_BATCHES)
@pytest.mark.parametrize("shapes", ["packed", "bucketed", "unplanned"])
@pytest.mark.parametrize("custom_text", [False, True])
def test_leaving_the_padding_out_changes_neither_features_nor_gradients(custom_text, shapes, lengths):
    layout = None if shapes == "unplanned" else _plan(lengths, shapes)
    _assert_same(_model(custom_text), _texts(lengths), layout)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL's products keep their bits in other shapes")
@pytest.mark.parametrize("shapes", ["packed", "unplanned"])
def test_on_a_cpu_no_bit_of_a_feature_knows_how_the_padding_was_left_out(shapes):
    context, text = 77, {"context_length": 77, "width": 128, "heads": 2, "layers": 3}
    model = tiny_clip(text=text)
    lengths = torch.randint(2, context + 1, (64,), generator=torch.Generator().manual_seed(8))
    tokens = _texts(lengths.tolist(), context)
    layout = None if shapes == "unplanned" else plan_texts(lengths, shapes=shapes, context_length=context)
    assert torch.equal(model.encode_text(Texts(tokens, layout=layout)), _encode_all(model, tokens, normalize=False))


@pytest.mark.parametrize("shapes", ["packed", "bucketed"])
@pytest.mark.parametrize(
    "text",
    [
        {"ls_init_value": 0.5},
        {"block_type": "custom"},
        {"qk_norm": True, "scale_heads": True, "scale_attn": True, "scale_fc": True, "scale_attn_inner": True},
        {"scaled_cosine_attn": True},
        {"pool_type": "eos", "eos_id": _EOT},
        {"proj_bias": True},
    ],
    ids=lambda text: next(iter(text)),
)
def test_kinds_of_blocks_and_pools_are_exact_too(text, shapes):
    lengths = _BATCHES["mixed"]
    # In double precision, because gradients of single numbers, like a head's gain, are sums that nearly cancel.
    _assert_same(_model(custom_text=True, text=text).double(), _texts(lengths), _plan(lengths, shapes))


@pytest.mark.parametrize("shapes", ["packed", "bucketed"])
def test_recomputing_blocks_in_the_backward_pass_changes_nothing(shapes):
    lengths = _BATCHES["mixed"]
    model = _model()
    wanted = _gradients(model, model.encode_text(_planned(lengths, shapes)))
    model.set_grad_checkpointing()
    gradients = _gradients(model, model.encode_text(_planned(lengths, shapes)))
    assert all(torch.equal(gradient, wanted[name]) for name, gradient in gradients.items())


@pytest.mark.parametrize("shapes", ["packed", "bucketed"])
def test_positions_and_words_that_no_text_reaches_get_a_gradient_of_zero(shapes):
    lengths = [4, 6, 3]
    model = _model()
    text = _texts(lengths)
    _gradients(model, model.encode_text(_planned(lengths, shapes)))
    assert model.positional_embedding.grad[:6].all(dim=-1).all()
    assert not model.positional_embedding.grad[6:].any()
    met = {int(word) for row, length in zip(text, lengths, strict=True) for word in row[:length]}
    reached = model.token_embedding.weight.grad.any(dim=-1).nonzero().flatten().tolist()
    assert set(reached) == met


@pytest.mark.parametrize("shapes", ["packed", "bucketed"])
def test_texts_cut_shorter_than_the_context_may_be_planned_all_the_same(shapes):
    lengths = [4, 6, 3]
    model = _model()
    expected = model.encode_text(_texts(lengths), normalize=True)
    features = model.encode_text(_planned(lengths, shapes, width=7), normalize=True)
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=0)


def test_blocks_only_meet_the_planned_shapes():
    lengths = _BATCHES["mixed"]
    model, layout = _model(), _plan(lengths, "bucketed")
    met = []
    for module in (model.token_embedding, *model.transformer.resblocks):
        module.register_forward_pre_hook(lambda _, args: met.append(tuple(args[0].shape[:2])))
    model.encode_text(Texts(_texts(lengths), layout=layout))
    assert set(met) == set(layout.shapes)


def test_what_dummy_rows_hold_changes_no_bit_of_a_gradient():
    lengths = _BATCHES["mixed"]
    model, text, layout = _model(), _texts(lengths), _plan(lengths, "bucketed")
    is_dummy = layout.slots == len(lengths)
    assert is_dummy.any()
    wanted = _gradients(model, model.encode_text(Texts(text, layout=layout)))
    others = layout._replace(rows=torch.where(is_dummy, 2, layout.rows))
    gradients = _gradients(model, model.encode_text(Texts(text, layout=others)))
    assert all(torch.equal(gradient, wanted[name]) for name, gradient in gradients.items())


def test_the_whole_model_takes_planned_texts():
    lengths = [4, 6]
    model = _model(output_dict=True)
    images, text = torch.randn(2, 3, 32, 32), _texts(lengths)
    plain = model(images, text)
    planned = model(images, _planned(lengths, "bucketed"))
    torch.testing.assert_close(planned["text_features"], plain["text_features"], atol=5e-7, rtol=0)


def test_a_layout_for_another_batch_is_refused():
    with pytest.raises(ConfigError, match="planned for 3 texts, but there are 2"):
        _model().encode_text(Texts(_texts([4, 6]), layout=_plan([4, 6, 3], "packed")))


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}])
def test_a_tower_that_needs_the_padding_passes_over_the_layout(text):
    model = _model(custom_text=True, text=text)
    tokens = _texts([4, 6])
    assert torch.equal(model.encode_text(_planned([4, 6], "packed")), model.encode_text(tokens))


def test_replaced_blocks_still_see_rows():
    class Passing(torch.nn.Module):
        def forward(self, x, attn_mask=None, is_causal=False):
            assert x.shape[1] == _CONTEXT
            return x

    lengths = _BATCHES["mixed"]
    model = _model()
    model.transformer.resblocks[1] = Passing()
    _assert_same(model, _texts(lengths), None)


def test_a_replaced_last_block_is_read_after_it_ran():
    class Doubling(torch.nn.Module):
        def forward(self, x, attn_mask=None, is_causal=False):
            return 2 * x

    lengths = _BATCHES["mixed"]
    model = _model()
    model.transformer.resblocks[2] = Doubling()
    _assert_same(model, _texts(lengths), _plan(lengths, "bucketed"))


def test_planned_texts_pass_through_distributed_data_parallel():
    lengths = [4, 6, 3]
    model = _model()
    images, text = torch.randn(3, 3, 32, 32), _texts(lengths)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        assert can_skip_padding(wrapped)
        for shapes in ("packed", "bucketed"):
            outputs = wrapped(images, _planned(lengths, shapes))
            sum(part.sum() for part in outputs).backward()
            features = outputs[1]
            torch.testing.assert_close(features, model.encode_text(text, normalize=True), atol=5e-7, rtol=0)
    finally:
        dist.destroy_process_group()


def test_a_hook_on_the_last_block_makes_it_compute_everything():
    model, text = _model(), _texts([4, 6])
    met = []
    handle = model.transformer.resblocks[-1].mlp.register_forward_hook(lambda *args: met.append(args[2].shape))
    model.visual.transformer.register_forward_hook(lambda *args: met.append(args[2].shape))
    model(torch.randn(2, 3, 32, 32), text)
    assert met == [(2, 17, 64), (2, _CONTEXT, 64)]
    handle.remove()
    model.encode_text(_planned([4, 6], "bucketed"))
    assert len(met) == 2


def test_without_hooks_the_last_blocks_network_sees_what_is_read_only():
    model, text = _model(), _texts([4, 6])
    met = []

    class Watching(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            met.append(tuple(x.shape))
            return self.inner(x)

    for tower in (model.visual, model):
        tower.transformer.resblocks[-1].mlp = Watching(tower.transformer.resblocks[-1].mlp)
    model(torch.randn(2, 3, 32, 32), text)
    assert met == [(2, 1, 64), (1, 2, 64)]
