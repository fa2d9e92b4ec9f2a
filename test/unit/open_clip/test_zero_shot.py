import pytest
import torch
from torch.testing import assert_close

import open_clip
from open_clip.errors import ConfigError
from open_clip.zero_shot_classifier import average_prompts
from tiny_models import tiny_clip

CLASSES = ["cat", "dog", "sea snake", "car", "tree"]
TEMPLATES = ["a photo of a {}.", lambda name: f"art of the {name}."]


def tokenizer(texts):
    """Letters as tokens, with the end token that the tiny model knows."""
    tokens = torch.zeros(len(texts), 16, dtype=torch.long)
    for row, text in enumerate(texts):
        letters = [ord(letter) for letter in text[:15]]
        tokens[row, : len(letters)] = torch.tensor(letters)
        tokens[row, len(letters)] = 599
    return tokens


def test_a_column_is_the_mean_of_its_prompts_on_the_sphere():
    model = tiny_clip()
    weights = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, TEMPLATES)
    assert weights.shape == (64, 5)
    assert not weights.requires_grad
    prompts = model.encode_text(tokenizer(["a photo of a dog.", "art of the dog."]), normalize=True)
    assert_close(weights[:, 1], torch.nn.functional.normalize(prompts.mean(0), dim=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 5, 10, None])
def test_the_batch_size_changes_nothing(size):
    model = tiny_clip()
    expected = open_clip.build_zero_shot_classifier_legacy(model, tokenizer, CLASSES, TEMPLATES)
    found = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, TEMPLATES, num_classes_per_batch=size)
    assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("classes, templates", [([], TEMPLATES), (CLASSES, []), (CLASSES, "a photo of a {}.")])
def test_nothing_to_classify_is_refused(classes, templates):
    for build in (open_clip.build_zero_shot_classifier, open_clip.build_zero_shot_classifier_legacy):
        with pytest.raises(ConfigError, match="needs a list of"):
            build(tiny_clip(), tokenizer, classes, templates)


def test_the_imagenet_names_and_templates_are_upstreams():
    assert len(open_clip.IMAGENET_CLASSNAMES) == 1000
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80
    assert len(open_clip.SIMPLE_IMAGENET_TEMPLATES) == 7
    assert open_clip.OPENAI_IMAGENET_TEMPLATES[0]("cat") == "a bad photo of a cat."
    assert open_clip.IMAGENET_CLASSNAMES[0] == "tench"


def test_prompts_are_encoded_shortest_first_over_the_bounds_of_classes():
    seen = []

    def encode(chosen):
        seen.append(chosen.tolist())
        return torch.nn.functional.normalize(torch.stack([chosen.float() + 1, torch.ones(len(chosen))], dim=1), dim=1)

    lengths = torch.tensor([5, 3, 4, 9, 3, 1])
    columns = average_prompts(encode, lengths, num_templates=2, batch_size=2)
    assert seen == [[5, 1], [4, 2], [0, 3]]
    features = encode(torch.arange(6))
    for number in range(3):
        mean = features[2 * number : 2 * number + 2].mean(0)
        assert_close(columns[:, number], mean / mean.norm())


def test_a_bar_counts_batches_of_classes(capfd):
    open_clip.build_zero_shot_classifier(tiny_clip(), tokenizer, CLASSES, TEMPLATES, 2, use_tqdm=True)
    assert "3/3" in capfd.readouterr().err
    open_clip.build_zero_shot_classifier_legacy(tiny_clip(), tokenizer, CLASSES, TEMPLATES, use_tqdm=True)
    assert "5/5" in capfd.readouterr().err
