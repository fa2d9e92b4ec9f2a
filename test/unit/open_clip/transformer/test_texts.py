import pytest
import torch

from open_clip.transformer.layout import plan_texts
from open_clip.transformer.texts import Texts
from tiny_models import tiny_batch, tiny_clip, tiny_coca

LENGTHS = torch.tensor([3, 5])
IDS = torch.tensor([[1, 7, 9, 0, 0, 0], [1, 4, 5, 6, 9, 0]])


def planned(shapes="packed"):
    return Texts(IDS, LENGTHS, plan_texts(LENGTHS, shapes=shapes, context_length=6))


def test_what_is_computed_moves_and_lengths_stay_on_the_host():
    moved = planned().to("meta")
    tensors = [moved.ids, *(part for part in moved.layout if isinstance(part, torch.Tensor))]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.lengths is LENGTHS
    assert len(moved) == 2


def test_a_model_is_given_texts_only_where_a_plan_was_made_for_it():
    texts = planned()
    assert texts.for_model() is texts
    assert Texts(IDS, LENGTHS).for_model() is IDS


def test_a_floating_type_leaves_texts_as_they_are():
    texts = planned()
    assert texts.to(torch.float16) is texts


def test_shapes_are_told_where_they_are_few():
    assert planned("bucketed").fixed_shapes() == {(2, 6)}
    assert planned().fixed_shapes() == Texts(IDS).fixed_shapes() == frozenset()


@pytest.mark.parametrize("make", [tiny_clip, lambda: tiny_clip(custom_text=True), tiny_coca])
def test_every_model_takes_texts_wherever_it_takes_token_ids(make):
    model = make().eval()
    images, ids = tiny_batch(3, model.context_length)
    texts = Texts(ids)
    assert torch.equal(model.encode_text(texts), model.encode_text(ids))
    found, expected = model(images, texts), model(images, ids)
    for one, other in zip(*(x.values() if isinstance(x, dict) else x for x in (found, expected)), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(model.get_logits(images, texts)[0], model.get_logits(images, ids)[0])
    found, expected = (model.forward_intermediates(text=text)["text_features"] for text in (texts, ids))
    assert torch.equal(found, expected)
