"""The order of labels, on labels whose tokens and probabilities are given."""

import math

import pytest
import torch

import open_clip
from label_words import make_label_tokenizer, tiny_label_model
from open_clip.errors import ConfigError
from open_clip.families.nxtp.decoding import predict_labels
from open_clip.families.nxtp.ranking import ClipJudge, rank_labels
from open_clip.families.nxtp.rows import Written

TOKENIZER = make_label_tokenizer("cat", "dog")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
EMBEDDINGS = torch.randn(TOKENIZER.vocab_size + 2, 8, generator=torch.Generator().manual_seed(1))
IMAGE_TOKENS = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))


def label(text, *probs, is_finished=True):
    ids = TOKENIZER.encode(text) if isinstance(text, str) else [TOKENIZER._pieces.ids[name] for name in text]
    assert len(probs) == len(ids) + is_finished
    return Written(tuple(ids), tuple(math.log(prob) for prob in probs), is_finished)


def rank(labels, ranking="prob", add_up=True, **changes):
    arguments = {"image_tokens": IMAGE_TOKENS, "embeddings": EMBEDDINGS, "images": IMAGES[:1], "clip": None}
    return rank_labels([labels], TOKENIZER, ranking, add_up=add_up, **arguments | changes)[0]


def texts(labels):
    return [one.text for one in labels]


# An unlikely label of sure tokens, a likely one of unsure tokens, and one between.
SURE, SHORT, OWL = label("toad", 0.3, 1.0, 1.0, 1.0, 1.0), label("cat", 0.5, 0.8), label("owl", 0.3, 0.9, 0.9, 0.9)


def test_the_likeliest_label_stands_first_and_its_probability_is_the_product():
    ranked = rank([OWL, SHORT, SURE])
    assert texts(ranked) == ["cat", "toad", "owl"]
    assert [one.prob for one in ranked] == pytest.approx([0.4, 0.3, 0.3 * 0.9**3])
    assert [one.score for one in ranked] == [one.prob for one in ranked]


def test_perplexity_is_that_of_the_mean_and_the_lowest_stands_first():
    ranked = rank([OWL, SHORT, SURE], "ppl")
    assert texts(ranked) == ["toad", "owl", "cat"]
    assert [one.score for one in ranked] == pytest.approx(
        [0.3 ** (-1 / 5), (0.3 * 0.9**3) ** (-1 / 4), 0.4 ** (-1 / 2)]
    )
    assert min(one.score for one in ranked) >= 1


def test_equal_labels_of_one_prompt_add_up_and_those_in_turn_do_not():
    spelt = label([" c", "a", "t"], 0.2, 0.9, 1.0, 0.5)
    ranked = rank([SHORT, SURE, spelt])
    assert texts(ranked) == ["cat", "toad"]
    assert ranked[0].prob == pytest.approx(0.4 + 0.09)
    assert [one.token for one in ranked[0].token_probs] == [" cat", ","], "the likeliest way is shown"
    assert rank([spelt, SHORT, SURE])[0] == ranked[0]
    assert rank([SHORT, SURE, spelt], add_up=False)[0].prob == pytest.approx(0.4)


def test_equal_labels_can_overtake():
    pair = [label("dog", 0.5, 0.5), label([" d", "o", "g"], 0.2, 1.0, 1.0, 1.0)]
    assert texts(rank([SHORT, *pair])) == ["dog", "cat"]


def test_a_beginning_stands_behind_all_labels_and_is_none_of_them():
    beginning = label("cat", 0.9, is_finished=False)
    for ranking in ("prob", "ppl", "sim", "none"):
        ranked = rank([beginning, SURE, SHORT], ranking)
        assert [one.is_finished for one in ranked] == [True, True, False]
        assert ranked[2].prob == pytest.approx(0.9)


def test_each_tokens_probability_is_told_with_the_delimiters():
    (owl,) = rank([OWL])
    assert owl.token_probs == tuple(
        (name, pytest.approx(p)) for name, p in zip((" o", "w", "l", ","), (0.3, 0.9, 0.9, 0.9), strict=True)
    )
    (cut,) = rank([label("owl", 0.3, 0.9, 0.9, is_finished=False)])
    assert [one.token for one in cut.token_probs] == [" o", "w", "l"]


def test_likeness_is_the_mean_distance_over_all_pairs_and_the_lowest_stands_first():
    ranked = rank([OWL, SHORT, SURE], "sim")
    expected = {}
    for one in (OWL, SHORT, SURE):
        pairs = [
            (2 - 2 * torch.cosine_similarity(EMBEDDINGS[token], place, dim=0)).sqrt().item() / 2
            for token in one.ids
            for place in IMAGE_TOKENS[0]
        ]
        expected[TOKENIZER.decode(one.ids)] = sum(pairs) / len(pairs)
    assert {one.text: one.score for one in ranked} == pytest.approx(expected)
    assert texts(ranked) == sorted(expected, key=expected.get)
    # A label that is the image itself is at no distance, its opposite at one.
    same = rank([SHORT], "sim", image_tokens=EMBEDDINGS[list(SHORT.ids)][None])
    other = rank([SHORT], "sim", image_tokens=-EMBEDDINGS[list(SHORT.ids)][None])
    assert (same[0].score, other[0].score) == (pytest.approx(0, abs=1e-3), pytest.approx(1))


def test_none_leaves_the_order_in_which_labels_were_written():
    assert texts(rank([OWL, SURE, SHORT], "none")) == ["owl", "toad", "cat"]


def test_labels_without_letters_are_left_out():
    comma = TOKENIZER.delimiter_id
    assert texts(rank([Written((comma,), (-1.0, -1.0), True), SHORT])) == ["cat"]
    assert rank([]) == []


class TestClip:
    @staticmethod
    def judge():
        torch.manual_seed(0)
        vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
        text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
        model = open_clip.CLIP(16, vision, text).eval()

        def tokenize(labels):
            # The id of the end is the largest, as CLIP reads it.
            return torch.tensor([[60, *(ord(char) % 50 for char in one[:6].ljust(6)), 63] for one in labels])

        return ClipJudge(model, tokenize)

    def test_another_model_says_which_of_the_labels_fit(self):
        clip = self.judge()
        ranked = rank([OWL, SHORT, SURE], "clip", clip=clip)
        with torch.no_grad():
            logits, _ = clip.model.get_logits(IMAGES[:1], clip.tokenize(["owl", "cat", "toad"]))
        expected = dict(zip(("owl", "cat", "toad"), logits[0].softmax(dim=0).tolist(), strict=True))
        assert {one.text: one.score for one in ranked} == pytest.approx(expected, rel=1e-5)
        assert texts(ranked) == sorted(expected, key=expected.get, reverse=True)
        assert [one.prob for one in ranked if one.text == "cat"] == pytest.approx([0.4])

    def test_each_image_is_judged_by_itself(self):
        model = tiny_label_model(TOKENIZER)
        together = predict_labels(model, IMAGES, TOKENIZER, 4, ranking="clip", clip=self.judge())
        for image, own in zip(IMAGES.split(1), together, strict=True):
            alone = predict_labels(model, image, TOKENIZER, 4, ranking="clip", clip=self.judge())[0]
            assert texts(alone) == texts(own)
            assert [one.score for one in own] == pytest.approx([one.score for one in alone], rel=1e-4)
            assert sum(one.score for one in own) == pytest.approx(1, rel=1e-5)

    def test_a_model_without_a_temperature_is_refused(self):
        clip = self.judge()
        del clip.model.logit_scale
        with pytest.raises(ConfigError, match="no logit_scale"):
            rank([OWL], "clip", clip=clip)
