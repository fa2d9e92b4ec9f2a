import contextlib

import pytest
import torch
from torch.testing import assert_close

import open_clip
from loop_runs import ALONE
from training.evaluate import EvaluationKit
from training.evaluate.classifiers import Classifiers, fingerprint_text_weights

torch.set_num_threads(1)
NAMES = ("cat", "sea snake", "great white shark, man-eater", "car")
TOKENIZER = open_clip.get_tokenizer("ViT-micro-8-32")


class Noting(open_clip.CLIP):
    """Notes the texts that are encoded."""

    def encode_text(self, text, normalize=False):
        self.seen.append(text)
        return super().encode_text(text, normalize)


class Counting:
    """A tokenizer that counts its calls."""

    calls = 0
    eot_token_id = TOKENIZER.eot_token_id

    def __call__(self, texts):
        self.calls += 1
        return TOKENIZER(texts)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-micro-8-32").eval()
    model.__class__, model.seen = Noting, []
    return model


def make_classifiers(shapes="padded", tokenizer=TOKENIZER):
    return Classifiers(EvaluationKit(ALONE, contextlib.nullcontext, lambda: tokenizer, shapes=shapes))


def get(classifiers, model, batch_size=100):
    with torch.no_grad():
        return classifiers.get(model, NAMES, batch_size)


@pytest.mark.parametrize("shapes", ["packed", "bucketed", "padded"])
def test_it_is_the_librarys_classifier(model, shapes):
    expected = open_clip.build_zero_shot_classifier(model, TOKENIZER, NAMES, open_clip.OPENAI_IMAGENET_TEMPLATES)
    assert_close(get(make_classifiers(shapes), model), expected, atol=5e-7, rtol=0)


def test_a_device_that_compiles_every_shape_sees_few(model):
    get(make_classifiers("bucketed"), model, batch_size=48)
    assert {len(texts) for texts in model.seen} == {48}
    assert len({shape for texts in model.seen for shape in texts.layout.shapes}) <= 4


def test_it_lasts_as_long_as_the_text_weights_stay(model):
    tokenizer = Counting()
    classifiers = make_classifiers("packed", tokenizer)
    first = get(classifiers, model)
    model.seen.clear()
    with torch.no_grad():
        model.visual.proj.mul_(2)
        model.logit_scale.add_(1)
    assert get(classifiers, model) is first
    assert not model.seen
    # In ways that torch's own counters of changes do not see, too.
    model.transformer.resblocks[0].mlp.c_fc.bias.data[0] += 1e-3
    second = get(classifiers, model)
    assert model.seen
    assert not torch.equal(first, second)
    expected = open_clip.build_zero_shot_classifier(model, TOKENIZER, NAMES, open_clip.OPENAI_IMAGENET_TEMPLATES)
    assert_close(second, expected, atol=5e-7, rtol=0)
    assert tokenizer.calls == 1


@pytest.mark.parametrize("name", ["token_embedding.weight", "text_projection", "ln_final.bias"])
def test_a_change_of_the_last_bit_is_seen(model, name):
    before = fingerprint_text_weights(model)
    weight = model.get_parameter(name)
    with torch.no_grad():
        place = (-1,) * weight.ndim
        weight[place] = torch.nextafter(weight[place], torch.tensor(9.0))
    assert fingerprint_text_weights(model) != before


def test_weights_swapped_in_and_back_are_the_same(model):
    classifiers = make_classifiers()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    first = get(classifiers, model)
    model.load_state_dict({name: value * 0.5 for name, value in kept.items()})
    assert not torch.equal(get(classifiers, model), first)
    model.load_state_dict(kept)
    assert torch.equal(get(classifiers, model), first)


def test_of_a_model_of_unknown_form_every_weight_counts():
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = torch.nn.Linear(2, 2)

    model = Shared()
    before = fingerprint_text_weights(model)
    model.visual.bias.data[0] += 1
    assert fingerprint_text_weights(model) != before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_any_type_are_digested(model, dtype):
    before = fingerprint_text_weights(model)
    assert fingerprint_text_weights(model.to(dtype)) != before
