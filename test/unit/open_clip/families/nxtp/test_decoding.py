"""Labels that are written: what their probabilities are, held against one forward pass over the whole text."""

import contextlib
import functools
import itertools

import pytest
import torch

from label_words import WordPieces, make_label_tokenizer, tiny_label_model
from open_clip.errors import ConfigError
from open_clip.families.nxtp.beams import search_beams
from open_clip.families.nxtp.config import LabelCfg
from open_clip.families.nxtp.decoding import (
    DecodingOptions,
    _penalise,
    predict_labels,
    write_in_turn,
    write_side_by_side,
)
from open_clip.families.nxtp.masks import training_mask
from open_clip.families.nxtp.rows import Marks, Rows, Written
from open_clip.families.nxtp.sequences import LabelSequences
from open_clip.families.nxtp.tokenizer import LabelTokenizer

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


class FewPieces(WordPieces):
    """28 tokens, and two added ones: the prompt's words, and labels of letters."""

    def __init__(self):
        prompt = [f" {word}" for word in LabelCfg().prompt.split()]
        self.names = ["<unk>", "<s>", "</s>", ",", *prompt, *(f" {letter}" for letter in "abcdefghi"), *"abcdefghi"]
        self.ids = {name: index for index, name in enumerate(self.names)}
        self.size = len(self.names)


TOKENIZER = LabelTokenizer(FewPieces(), LabelCfg())
VOCABULARY = TOKENIZER.vocab_size + 2
DELIMITER = TOKENIZER.delimiter_id


@functools.cache
@torch.no_grad()
def a_model(seed=1, likely_end=2.0):
    """Make a model whose labels are short: the head's row of the delimiter leans to what is usual inside a label.

    With a negative ``likely_end`` labels never end.
    """
    model = tiny_label_model(TOKENIZER, seed, 0.2)
    inside = [read(model, IMAGES, [], [token], at=-2)[1] for token in range(10, TOKENIZER.vocab_size)]
    hidden = torch.cat(inside).mean(dim=0)
    ends = [DELIMITER] if likely_end > 0 else [*range(4), VOCABULARY - 2, VOCABULARY - 1]
    model.decoder.head.weight[ends] += likely_end * hidden / hidden.square().sum()
    return model


def sequence(labels, tail=()):
    """Lay out labels (lists of ids) behind the prompt, each closed, and a beginning of another."""
    head = [TOKENIZER.image_id, TOKENIZER.bos_id, *TOKENIZER.encode(LabelCfg().prompt)]
    ids, segments = list(head), [0] * len(head)
    for number, label in enumerate(labels):
        ids += [*label, DELIMITER]
        segments += [number] * (len(label) + 1)
    ids += [*tail, TOKENIZER.eos_id]
    segments += [len(labels)] * (len(tail) + 1)
    # An open label sees itself, as one does that will be closed.
    counts = torch.tensor([len(labels) + 1])
    numbers = torch.arange(len(ids))[None]
    length = torch.tensor([len(ids)])
    return LabelSequences(
        torch.tensor([ids]), torch.tensor([segments]), numbers, length.new_tensor([len(head) - 1]), counts, counts,
        length, 0 * counts,
    )  # fmt: skip


def read(model, images, labels, tail=(), at=None):
    """Run one forward pass over a whole text: log probabilities [L, V], or the hidden state of a place."""
    text = sequence(labels, tail)
    prefix = model.prefix(images)
    embeddings = torch.cat([prefix, model.decoder.embed(text.ids).expand(len(images), -1, -1)], dim=1)
    mask = training_mask(text, prefix.shape[1])
    hidden = model.decoder.run(embeddings, mask, torch.arange(embeddings.shape[1])[None])
    if at is not None:
        return None, hidden[:, at]
    return model(images, text._replace(ids=text.ids))[0].log_softmax(dim=-1), None


def teacher_forced(model, image, labels, tail=()):
    """Give the log probability of each token of the labels, delimiters included, from one forward pass."""
    text = sequence(labels, tail)
    start = int(text.answers)
    log_probs, _ = read(model, image, labels, tail)
    following = text.ids[0, start + 1 : -1]
    return log_probs[start : start + len(following)].gather(1, following[:, None])[:, 0]


@torch.no_grad()
def written_by(model, write, *arguments, steps=20, images=IMAGES):
    rows, steps = Rows.read(model, images, TOKENIZER, LabelCfg().prompt, steps)
    return write(rows, Marks.find(TOKENIZER, VOCABULARY, images.device), *arguments[:1], steps, *arguments[1:])


@torch.no_grad()
def complete_greedily(model, image, first, most):
    """Continue a first token with the likeliest, one whole forward pass a token."""
    ids = [first]
    while len(ids) <= most:
        log_probs, _ = read(model, image, [], ids)
        best = int(log_probs[-2].argmax())
        if best == DELIMITER:
            return tuple(ids), True
        if best >= TOKENIZER.vocab_size or best in (TOKENIZER.bos_id, TOKENIZER.eos_id):
            break
        ids.append(best)
    return tuple(ids), False


@contextlib.contextmanager
def counting_passes(model):
    calls = []
    hook = model.decoder.norm.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


class TestOneShot:
    def test_a_score_is_the_probability_that_one_forward_pass_gives(self):
        model = a_model()
        found = written_by(model, write_side_by_side, 8)
        assert {label.is_finished for own in found for label in own} == {True, False}
        assert {len(label.ids) for own in found for label in own} >= {1, 2}
        for image, own in zip(IMAGES.split(1), found, strict=True):
            for label in own:
                with torch.no_grad():
                    closed, tail = ([label.ids], ()) if label.is_finished else ([], label.ids)
                    expected = teacher_forced(model, image, closed, tail)
                torch.testing.assert_close(torch.tensor(label.log_probs), expected, rtol=0, atol=2e-5)

    def test_all_first_tokens_give_exactly_the_greedy_completions(self):
        model = a_model()
        found = written_by(model, write_side_by_side, VOCABULARY, steps=3)
        silent = {0, TOKENIZER.bos_id, TOKENIZER.eos_id, DELIMITER, VOCABULARY - 2, VOCABULARY - 1}
        for image, own in zip(IMAGES.split(1), found, strict=True):
            expected = {complete_greedily(model, image, first, 3) for first in set(range(VOCABULARY)) - silent}
            assert {(label.ids, label.is_finished) for label in own} == expected
            assert len(own) == len(expected) == VOCABULARY - len(silent)
        lengths = {len(label.ids) for own in found for label in own}
        assert {1, 2} <= lengths <= {1, 2, 3, 4}

    def test_the_first_tokens_are_the_likeliest_and_more_rows_add_to_them(self):
        model = a_model()
        few, many = (written_by(model, write_side_by_side, k)[0] for k in (3, 6))
        assert [label.ids for label in many[:3]] == [label.ids for label in few]
        firsts = [label.log_probs[0] for label in many]
        assert firsts == sorted(firsts, reverse=True)
        assert len({label.ids[0] for label in many}) == 6

    def test_extra_rows_let_a_likely_label_behind_an_unlikely_beginning_in(self):
        model = a_model()
        every = predict_labels(model, IMAGES, TOKENIZER, VOCABULARY)[0]
        few, more = (
            predict_labels(model, IMAGES, TOKENIZER, 3, options=DecodingOptions(extra_rows=extra))[0]
            for extra in (0, VOCABULARY)
        )
        assert [label.text for label in more] == [label.text for label in every[:3]]
        assert sum(label.prob for label in more) >= sum(label.prob for label in few)

    def test_a_label_that_no_delimiter_closes_is_flagged_and_stands_last(self):
        model = a_model(seed=2)
        options = DecodingOptions(max_label_tokens=2)
        labels = predict_labels(model, IMAGES, TOKENIZER, VOCABULARY, options=options)[0]
        flags = [label.is_finished for label in labels]
        assert flags == sorted(flags, reverse=True)
        assert set(flags) == {True, False}
        open_ones = [label for label in labels if not label.is_finished]
        # Its first token and the two that were allowed, or fewer where an end of the text came inside of it.
        assert max(len(label.token_probs) for label in open_ones) == 3
        assert max(label.prob for label in open_ones) > min(label.prob for label in labels if label.is_finished)

    def test_one_label_is_the_first_that_greedy_writes(self):
        for seed in range(3):
            model = a_model(seed)
            one = predict_labels(model, IMAGES, TOKENIZER, 1)
            for repeated in (1.0, 1.2):
                options = DecodingOptions(penalty=repeated)
                assert predict_labels(model, IMAGES, TOKENIZER, 1, "greedy", options=options) == one
            several = predict_labels(model, IMAGES, TOKENIZER, 4, "greedy", "none")
            assert [own[0].text for own in several] == [own[0].text for own in one]

    def test_nothing_is_read_once_every_label_is_closed(self):
        model = a_model()
        with counting_passes(model) as calls:
            found = written_by(model, write_side_by_side, VOCABULARY, steps=40, images=IMAGES[:1])
        lengths = [len(label.ids) for own in found for label in own]
        assert min(lengths) < max(lengths), "they end at different steps"
        assert len(calls) == 1 + max(lengths)

    def test_the_context_ends_what_is_written(self):
        model = a_model(likely_end=-20.0)
        labels = predict_labels(model, IMAGES, TOKENIZER, 2, options=DecodingOptions(max_label_tokens=1000))[0]
        head = sequence([]).ids.shape[1] - 1
        assert {len(label.token_probs) for label in labels} == {64 - 16 - head + 1}


class TestInTurn:
    def test_a_label_sees_no_other_from_its_first_token_on(self):
        model = a_model()
        found = written_by(model, write_in_turn, 4, DecodingOptions(), steps=30)
        for image, own in zip(IMAGES.split(1), found, strict=True):
            closed, rest = [label for label in own if label.is_finished], own[-1]
            assert len(closed) > 1
            tail = () if rest.is_finished else rest.ids
            with torch.no_grad():
                expected = teacher_forced(model, image, [label.ids for label in closed], tail)
            log_probs = [one for label in own for one in label.log_probs]
            torch.testing.assert_close(torch.tensor(log_probs), expected, rtol=0, atol=2e-5)

    def test_nothing_is_read_once_there_are_enough_labels(self):
        model = a_model()
        with counting_passes(model) as calls:
            (own,) = written_by(model, write_in_turn, 3, DecodingOptions(), steps=40, images=IMAGES[:1])
        assert [label.is_finished for label in own] == [True] * 3
        assert len(calls) == sum(len(label.ids) + 1 for label in own)

    def test_labels_that_may_see_each_other_do(self, monkeypatch):
        model = a_model()
        options = DecodingOptions(penalty=1.0)
        apart = written_by(model, write_in_turn, 3, options)
        monkeypatch.setattr(model.label_cfg, "separate_labels", False)
        together = written_by(model, write_in_turn, 3, options)
        assert [own[0].log_probs for own in apart] == [own[0].log_probs for own in together]
        assert [own[1:] for own in apart] != [own[1:] for own in together]

    def test_a_penalty_makes_tokens_of_finished_labels_less_likely_whatever_the_sign_of_their_scores(self):
        logits = torch.linspace(-3.0, 3.0, VOCABULARY).expand(2, -1)
        ids = torch.tensor([[10, 27, DELIMITER, 12], [10, 11, 12, 13]])
        penalised = _penalise(logits, ids, TestMarks.MARKS, 2.0)
        expected = logits.clone()
        # A negative score is multiplied, a positive one divided; 12 stands in a label that is open yet.
        expected[0, 10] *= 2
        expected[0, 27] /= 2
        assert torch.equal(penalised, expected)
        assert (expected[0, [10, 27]] < logits[0, [10, 27]]).all()

    def test_a_penalty_keeps_labels_from_coming_again(self):
        model = a_model()
        plain, penalised = (
            written_by(model, write_in_turn, 6, DecodingOptions(penalty=penalty), steps=40) for penalty in (1.0, 1e6)
        )
        assert all(has_repeats(own) for own in plain)
        assert not any(has_repeats(own) for own in penalised)

    @pytest.mark.parametrize("options", [{"sampling": "top_k", "top_k": 3}, {"sampling": "top_p", "top_p": 0.5}])
    def test_what_is_drawn_repeats_with_its_generator_and_is_scored_by_the_model_alone(self, options):
        model = a_model()
        made = DecodingOptions(**options, temperature=2.0)
        found = [
            written_by(model, write_in_turn, 3, made, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2, 3)
        ]
        assert found[0] == found[1]
        assert len({tuple(label.ids for label in own) for own in found}) > 1
        closed = [label for label in found[0] if label.is_finished]
        with torch.no_grad():
            expected = teacher_forced(model, IMAGES[:1], [label.ids for label in closed])
        log_probs = [one for label in closed for one in label.log_probs]
        torch.testing.assert_close(torch.tensor(log_probs), expected, rtol=0, atol=2e-5)

    def test_a_low_temperature_and_a_narrow_share_take_the_likeliest(self):
        model = a_model()
        greedy = predict_labels(model, IMAGES, TOKENIZER, 3, "greedy")
        for options in ({"top_p": 1e-6}, {"temperature": 1e-6, "top_p": 1.0}):
            made = DecodingOptions(sampling="top_p", **options)
            assert predict_labels(model, IMAGES, TOKENIZER, 3, "greedy", options=made) == greedy


def has_repeats(labels):
    texts = [label.ids for label in labels]
    return len(set(texts)) < len(texts)


def worth_of(model, labels):
    """Give the mean log probability of a token of each label of one length, by one forward pass."""
    texts = LabelSequences(*(torch.cat(parts) for parts in zip(*(sequence([one]) for one in labels), strict=True)))
    start = int(texts.answers[0])
    log_probs = model(IMAGES[:1].expand(len(labels), -1, -1, -1), texts).log_softmax(dim=-1)[:, start:-2]
    following = texts.ids[:, start + 1 : -1, None]
    return dict(zip(labels, log_probs.gather(2, following).mean(dim=(1, 2)).tolist(), strict=True))


class TestBeam:
    def test_with_room_for_all_it_finds_the_text_of_the_highest_mean(self):
        model = a_model(seed=2)
        every = range(4, TOKENIZER.vocab_size)
        with torch.no_grad():
            # Every label of one or two tokens that the delimiter closes.
            worth = worth_of(model, list(itertools.product(every))) | worth_of(
                model, list(itertools.product(every, [0, *every]))
            )
        best = max(worth, key=worth.get)
        options = DecodingOptions(beam_size=200, max_tokens=3, patience=100.0)
        label = predict_labels(model, IMAGES[:1], TOKENIZER, 1, "beam", options=options)[0][0]
        assert label.is_finished
        assert label.text == TOKENIZER.decode(best)

    def test_one_beam_is_greedy_and_more_are_no_worse(self):
        model = a_model()
        plain = DecodingOptions(penalty=1.0)
        greedy = predict_labels(model, IMAGES, TOKENIZER, 3, "greedy", "none", options=plain)
        one = predict_labels(model, IMAGES, TOKENIZER, 3, "beam", "none", options=DecodingOptions(beam_size=1))
        assert [[(a.text, a.is_finished) for a in own] for own in one] == [
            [(a.text, a.is_finished) for a in own] for own in greedy
        ]

    def test_what_it_writes_has_the_probability_that_one_forward_pass_gives(self):
        model = a_model(likely_end=4.0)
        found = written_by(model, search_beams, 3, 4, 1.0, steps=30)
        for image, own in zip(IMAGES.split(1), found, strict=True):
            assert [label.is_finished for label in own] == [True] * 3
            with torch.no_grad():
                expected = teacher_forced(model, image, [label.ids for label in own])
            log_probs = [one for label in own for one in label.log_probs]
            torch.testing.assert_close(torch.tensor(log_probs), expected, rtol=0, atol=2e-5)

    def test_with_more_patience_more_texts_end_before_one_is_taken(self):
        model, passes, worth = a_model(), [], []
        for patience in (0.1, 1.0, 4.0):
            with counting_passes(model) as calls:
                (own,) = written_by(model, search_beams, 2, 4, patience, steps=20, images=IMAGES[:1])
            passes.append(len(calls))
            log_probs = [one for label in own for one in label.log_probs]
            worth.append(sum(log_probs) / len(log_probs))
        assert passes[0] < passes[1] < passes[2], passes
        assert worth == sorted(worth)

    def test_an_image_is_searched_as_if_it_were_alone(self):
        model = a_model()
        options = DecodingOptions(beam_size=3, max_tokens=12, patience=0.4)
        together = predict_labels(model, IMAGES, TOKENIZER, 2, "beam", options=options)
        for image, own in zip(IMAGES.split(1), together, strict=True):
            alone = predict_labels(model, image, TOKENIZER, 2, "beam", options=options)[0]
            assert [label.text for label in alone] == [label.text for label in own]


class TestMarks:
    MARKS = Marks.find(TOKENIZER, VOCABULARY, torch.device("cpu"))

    def test_a_label_begins_with_a_letter(self):
        silent = self.MARKS.no_beginning.nonzero().flatten().tolist()
        assert silent == [0, 1, 2, DELIMITER, VOCABULARY - 2, VOCABULARY - 1]

        class WithBlanks(FewPieces):
            def __init__(self):
                super().__init__()
                self.names += [" ", ",,"]
                self.size += 2

        tokenizer = LabelTokenizer(WithBlanks(), LabelCfg())
        marks = Marks.find(tokenizer, tokenizer.vocab_size + 2, torch.device("cpu"))
        assert marks.no_beginning.nonzero().flatten().tolist() == [0, 1, 2, DELIMITER, 28, 29, 30, 31]

    def test_a_text_is_cut_at_delimiters_and_ends_at_its_end(self):
        d, eos = DELIMITER, TOKENIZER.eos_id
        ids, log_probs = [20, 21, d, 22, d, 23, eos, 24], [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0]
        first, second = Written((20, 21), (-1.0, -2.0, -3.0), True), Written((22,), (-4.0, -5.0), True)
        assert self.MARKS.split(ids, log_probs, 9) == [first, second, Written((23,), (-6.0,), False)]
        assert self.MARKS.split(ids, log_probs, 1) == [first]
        assert self.MARKS.split([d, 20, d], [-1.0, -2.0, -3.0], 9) == [Written((20,), (-2.0, -3.0), True)]

    def test_what_no_label_begins_with_is_forbidden_where_one_begins(self):
        scores = torch.zeros(2, VOCABULARY)
        at_first = self.MARKS.forbid(scores, torch.empty(2, 0, dtype=torch.int64))
        assert at_first.isinf().tolist() == [self.MARKS.no_beginning.tolist()] * 2
        between, inside = self.MARKS.forbid(scores, torch.tensor([[20, DELIMITER], [DELIMITER, 20]]))
        assert not inside.isinf().any()
        assert between.isinf().tolist() == self.MARKS.no_beginning.tolist()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_p": 1.5}, "top_p is 1.5; it must be above 0 and at most 1"),
        ({"penalty": 0.0}, "penalty is 0.0; it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"beam_size": 0}, "beam_size is 0; it must be 1 or more"),
        ({"extra_rows": -1}, "extra_rows is -1"),
        ({"sampling": "topk"}, "sampling is 'topk'. Did you mean top_k"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        DecodingOptions(**options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"strategy": "oneshot"}, "strategy is 'oneshot'. Did you mean one_shot"),
        ({"ranking": "perplexity"}, "ranking is 'perplexity'. It can be prob, ppl"),
        ({"k": 0}, "k is 0"),
        ({"ranking": "clip"}, "needs a CLIP model"),
        ({"prompt": "The objects are here and " * 20 + "are"}, "shorten it"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigError, match=message):
        predict_labels(tiny_label_model(TOKENIZER), IMAGES, TOKENIZER, **arguments)


def test_half_precision_keeps_probabilities_in_fp32():
    model = a_model()
    expected = predict_labels(model, IMAGES, TOKENIZER, 5)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = predict_labels(model, IMAGES, TOKENIZER, 5)[0]
    assert {label.text for label in found} & {label.text for label in expected}
    assert all(0 < label.prob < 1 for label in found)
    assert any(label.prob != torch.tensor(label.prob).bfloat16().item() for label in found)


def test_a_tokenizer_of_whole_words_gives_its_words():
    tokenizer = make_label_tokenizer("cat", "dog")
    labels = predict_labels(tiny_label_model(tokenizer), IMAGES, tokenizer, tokenizer.vocab_size)[0]
    assert any(label.text.startswith(("cat", "dog")) for label in labels)
