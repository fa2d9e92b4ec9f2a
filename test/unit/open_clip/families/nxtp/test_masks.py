"""The mask of rules A, B and C, held against loops over the rules, and what a model makes of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from label_words import make_label_tokenizer, tiny_label_model
from open_clip.families.nxtp.masks import prompt_mask, training_mask
from open_clip.families.nxtp.sequences import build_sequences

WORDS = ("cat", "dog", "bird", "fish")
TOKENIZER = make_label_tokenizer(*WORDS)
PROMPTS = ("The objects in the image are", "The elements that appear in the picture are")
NUM_IMAGE_TOKENS = 5
LABELS = st.lists(st.sampled_from([*WORDS, "toad", "of", "elephant"]), max_size=6)
ROWS = st.lists(st.tuples(st.sampled_from(PROMPTS), LABELS), min_size=1, max_size=4)


def built(rows, mode="closed"):
    return build_sequences([row[0] for row in rows], [row[1] for row in rows], TOKENIZER, 60, mode)


def mask_by_rules(ids, answer, bidirectional=True, separate=True):
    """Loop over query and key; what belongs together is told from the delimiters among the ids alone."""
    length = NUM_IMAGE_TOKENS + len(ids)
    tokens = [None] * NUM_IMAGE_TOKENS + list(ids)
    answer += NUM_IMAGE_TOKENS
    seg, seen = [], 0
    for token in tokens:
        seg.append(seen)
        seen += token == TOKENIZER.delimiter_id
    allowed = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        for j in range(length):
            a = j <= i and j <= answer
            b = bidirectional and i < NUM_IMAGE_TOKENS and j < NUM_IMAGE_TOKENS
            c = answer <= j <= i and seg[i] == seg[j] and seg[i] < seen
            allowed[i, j] = a or b or c or (not separate and j <= i)
    return allowed


@settings(deadline=None, max_examples=30)
@given(ROWS, st.sampled_from(["closed", "public"]), st.booleans(), st.booleans())
def test_the_mask_is_that_of_the_rules(rows, mode, bidirectional, separate):
    sequences = built(rows, mode)
    found = training_mask(sequences, NUM_IMAGE_TOKENS, bidirectional_image=bidirectional, separate_labels=separate)
    assert found.dtype == torch.bool
    assert found.shape == (len(rows), 1, *[NUM_IMAGE_TOKENS + sequences.ids.shape[1]] * 2)
    for row, ids, answer in zip(found, sequences.ids.tolist(), sequences.answers.tolist(), strict=True):
        assert torch.equal(row[0], mask_by_rules(ids, answer, bidirectional, separate))
    assert found.any(dim=-1).all(), "nobody sees nothing"


def test_a_row_written_out_by_hand():
    sequences = built([(PROMPTS[0], ["cat", "of"])])
    seen = training_mask(sequences, NUM_IMAGE_TOKENS)[0, 0].int().tolist()
    lines = ["".join(map(str, row)) for row in seen]
    prompt = "1" * 13
    # 5 image tokens, 8 of the text up to the answer, "cat" ",", "o" "f" ",", the end, padding to 16.
    assert lines[0] == "1" * 5 + "0" * 16, "image tokens see each other"
    assert lines[5] == "1" * 6 + "0" * 15, "what follows them is causal"
    assert lines[12] == prompt + "0" * 8
    assert lines[13] == prompt + "10000000"
    assert lines[14] == prompt + "11000000"
    assert lines[15] == prompt + "00100000"
    assert lines[17] == prompt + "00111000"
    assert lines[18] == lines[20] == prompt + "0" * 8, "the end sees no label"


def test_in_public_mode_the_last_label_does_not_see_itself():
    sequences = built([(PROMPTS[0], ["cat", "of"]), (PROMPTS[0], ["of"])], "public")
    seen = training_mask(sequences, NUM_IMAGE_TOKENS)[:, 0]
    assert seen[0, 13:17, 13:17].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert not seen[1, 13:, 13:].any()


class Recorded(TorchDispatchMode):
    """Lists the operators that torch runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


def test_a_mask_is_built_by_as_many_operators_for_any_labels_and_none_waits_for_a_value():
    ran = []
    for labels in (["cat"], ["cat", "dog", "of", "toad", "fish"]):
        sequences = built([(PROMPTS[0], labels)])
        with Recorded() as recorded:
            training_mask(sequences, NUM_IMAGE_TOKENS)
        ran.append(recorded.names)
    assert ran[0] == ran[1]
    assert not {"_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero"} & set(ran[0])


def test_the_prompts_mask_is_that_of_a_row_without_labels():
    sequences = built([(PROMPTS[0], [])])
    whole = training_mask(sequences, NUM_IMAGE_TOKENS)
    length = NUM_IMAGE_TOKENS + 8
    assert torch.equal(prompt_mask(NUM_IMAGE_TOKENS, 8), whole[..., :length, :length])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([*WORDS, "toad"]), min_size=2, max_size=5), st.integers(0, 4), st.data())
def test_a_label_changes_no_other_labels_logits(labels, changed, data):
    changed %= len(labels)
    model, image = tiny_label_model(TOKENIZER), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    sequences = built([(PROMPTS[0], labels)])
    is_changed = (sequences.segments == changed) & (torch.arange(sequences.ids.shape[1]) > sequences.answers)
    is_changed &= sequences.ids != TOKENIZER.delimiter_id
    places = is_changed[0].nonzero().flatten().tolist()
    place = data.draw(st.sampled_from(places))
    other_ids = sequences.ids.clone()
    other_ids[0, place] = TOKENIZER.encode_label(
        "fish" if sequences.ids[0, place] != TOKENIZER.encode("fish")[0] else "cat"
    )[0]
    with torch.no_grad():
        before = model(image, sequences)[0]
        after = model(image, sequences._replace(ids=other_ids))[0]
    moved = (before != after).any(dim=1)
    own = sequences.segments[0] == changed
    assert moved[place:][own[place:]].all(), "the label's own later tokens hear of it"
    assert not moved[~own].any()
    assert not moved[:place].any()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_an_early_image_token_hears_of_a_late_one_only_where_the_image_is_bidirectional(bidirectional):
    model = tiny_label_model(TOKENIZER, bidirectional_image=bidirectional)
    prefix = torch.randn(1, NUM_IMAGE_TOKENS, 32, generator=torch.Generator().manual_seed(0))
    mask = prompt_mask(NUM_IMAGE_TOKENS, 0, bidirectional_image=model.label_cfg.bidirectional_image)
    places = torch.arange(NUM_IMAGE_TOKENS)[None]
    with torch.no_grad():
        before = model.decoder.run(prefix, mask, places)
        prefix[:, -1] += 1
        assert (model.decoder.run(prefix, mask, places)[:, 0] != before[:, 0]).any() == bidirectional
