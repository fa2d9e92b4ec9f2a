from copy import deepcopy

import pytest
import torch
from torch import nn

from open_clip.errors import ConfigError
from tiny_models import tiny_batch, tiny_coca

IDS = {"seq_len": 12, "eos_token_id": 599, "sot_token_id": 598}


class OtherTower(nn.Module):
    """A text tower that no cache knows."""

    def __init__(self, tower):
        super().__init__()
        self.tower, self.context_length = tower, tower.context_length

    def forward(self, text):
        return self.tower(text)


@pytest.fixture(scope="module")
def model():
    return tiny_coca(seed=1, change=0.3)


@pytest.fixture(scope="module")
def image():
    return tiny_batch(3)[0]


SEARCHES = {
    "greedy": {"generation_type": "top_k"},
    "top-k": {"generation_type": "top_k", "top_k": 30},
    "top-p": {"generation_type": "top_p", "top_p": 0.9, "temperature": 1.4},
    "beams": {},
    "beams-wide": {"num_beams": 5, "num_beam_groups": 1, "repetition_penalty": 1.8, "min_seq_len": 8},
}


@pytest.mark.parametrize("search", SEARCHES)
def test_the_cache_changes_no_caption(model, image, search):
    uncached = deepcopy(model)
    uncached.text = OtherTower(model.text)
    found = []
    for one in (model, uncached):
        torch.manual_seed(0)
        found.append(one.generate(image, **IDS, **SEARCHES[search]))
    assert torch.equal(*found)
    assert found[0].dtype == torch.long
    assert (found[0][:, 0] == 598).all()


def test_groups_of_beams_find_what_one_group_finds(model, image):
    grouped = model.generate(image, num_beams=6, num_beam_groups=3, **IDS)
    assert torch.equal(grouped, model.generate(image, num_beams=2, num_beam_groups=1, **IDS))


def test_each_image_is_written_as_if_it_were_alone(model, image):
    together = model.generate(image, fixed_output_length=True, **IDS)
    for row, one in zip(together, image, strict=True):
        assert torch.equal(model.generate(one[None], fixed_output_length=True, **IDS)[0], row)


@pytest.mark.parametrize("generation_type", ["beam_search", "top_k"])
def test_a_text_is_continued(model, image, generation_type):
    text = torch.tensor([[598, 4, 5], [598, 6, 7], [598, 8, 9]])
    options = IDS | {"generation_type": generation_type}
    assert torch.equal(model.generate(image, text, **options)[:, :3], text)
    one = model.generate(image[:1], text[0], **options)
    assert one.dim() == 1
    assert one[:3].tolist() == [598, 4, 5]
    assert (model.generate(image, text[:1], **options)[:, 2] == 5).all()
    with pytest.raises(ConfigError, match="2 texts for 3 images"):
        model.generate(image, text[:2], **options)


def test_a_longer_text_than_the_context_slides_on(model, image):
    long = model.generate(image, generation_type="top_k", **(IDS | {"seq_len": 25, "fixed_output_length": True}))
    assert long.shape == (3, 25)


def test_the_model_is_left_in_the_mode_it_was_in_and_no_graph_is_kept(image):
    model = tiny_coca(seed=1, change=0.3)
    model.train()
    model.visual.eval()
    found = model.generate(image, **IDS)
    assert model.training
    assert model.text.training
    assert not model.visual.training
    assert not found.requires_grad


def test_own_criteria_end_the_texts(model, image):
    class AtLength:
        max_length = 7

        def __call__(self, ids, scores):
            return ids.shape[1] >= self.max_length

    for kind in ("beam_search", "top_k"):
        found = model.generate(image, generation_type=kind, stopping_criteria=[AtLength()], **(IDS | {"seq_len": 20}))
        assert found.shape[1] <= 7


@pytest.mark.parametrize(
    "options, said",
    [
        ({"generation_type": "beams"}, "Did you mean beam_search"),
        ({"num_beams": 5}, "5 beams cannot be cut into 3 equal groups"),
        ({"generation_type": "top_p", "top_p": 1.5}, "top_p is 1.5"),
        ({"generation_type": "top_k", "top_k": 0}, "top_k is 0"),
        ({"generation_type": "top_k", "temperature": 0}, "temperature is 0"),
        ({"sot_token_id": 598}, "eos_token_id holds 49407, but the model's ids are 0 to 599"),
        ({"eos_token_id": 599}, "text holds 49406"),
        ({"seq_len": 4}, "must be above min_seq_len"),
    ],
)
def test_arguments_out_of_range_are_refused(model, image, options, said):
    with pytest.raises(ConfigError, match=said):
        model.generate(image, **options)
