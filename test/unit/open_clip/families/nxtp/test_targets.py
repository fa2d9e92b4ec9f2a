"""Which positions predict what, in each setting, and the loss."""

import itertools

import pytest
import torch

from label_words import make_label_tokenizer, tiny_label_model
from open_clip.families.nxtp.sequences import build_sequences
from open_clip.families.nxtp.targets import targets, token_losses

PROMPT = "The objects in the image are"
TOKENIZER = make_label_tokenizer("cat", "dog", "bird")


def built(labels, mode="closed", **options):
    return build_sequences([PROMPT] * len(labels), labels, TOKENIZER, 48, mode, **options)


def listed(sequences, found):
    """Write each prediction as 'row:token -> what follows'."""
    length = sequences.ids.shape[1]
    lines = []
    for at, ids in zip(found.at.tolist(), found.ids.tolist(), strict=True):
        row, place = divmod(at, length)
        names = "/".join(TOKENIZER.name(token).strip() for token in ids if token >= 0)
        lines.append(f"{row}:{TOKENIZER.name(int(sequences.ids[row, place])).strip()} > {names}")
    return lines


def test_labels_and_their_delimiters_are_predicted_and_nothing_else():
    sequences = built([("cat", "of"), ("dog",), ()])
    assert listed(sequences, targets(sequences)) == [
        "0:are > cat", "0:cat > ,", "0:, > o", "0:o > f", "0:f > ,", "1:are > dog", "1:dog > ,",
    ]  # fmt: skip


def test_in_public_mode_the_last_labels_end_is_not():
    sequences = built([("cat", "of"), ("dog",)], "public")
    assert listed(sequences, targets(sequences)) == [
        "0:are > cat", "0:cat > ,", "0:, > o", "0:o > f", "1:are > dog",
    ]  # fmt: skip


def test_the_prompt_is_predicted_where_asked_from_its_beginning_on():
    sequences = built([("cat",)])
    assert listed(sequences, targets(sequences, loss_on_prompt=True)) == [
        "0:<|image|> > <s>", "0:<s> > The", "0:The > objects", "0:objects > in", "0:in > the", "0:the > image",
        "0:image > are", "0:are > cat", "0:cat > ,",
    ]  # fmt: skip


def test_all_first_tokens_are_predicted_at_the_answer_and_none_behind_a_delimiter():
    sequences = built([("cat", "of", "dog"), ("dog",), ()])
    assert listed(sequences, targets(sequences, "multi")) == [
        "0:are > cat/o/dog", "0:cat > ,", "0:o > f", "0:f > ,", "0:dog > ,", "1:are > dog", "1:dog > ,",
    ]  # fmt: skip


def test_the_loss_is_the_cross_entropy_and_alternatives_weigh_the_same():
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)) * 3
    ids = torch.tensor([[4, -100, -100], [1, 7, 2], [9, -100, -100]])
    log_probs = logits.log_softmax(dim=1)
    expected = torch.stack([-log_probs[0, 4], -log_probs[1, [1, 7, 2]].mean(), -log_probs[2, 9]])
    torch.testing.assert_close(token_losses(logits, ids), expected)
    assert token_losses(logits.bfloat16(), ids).dtype == torch.float32
    soft = torch.zeros(10).index_fill(0, torch.tensor([1, 7, 2]), 1 / 3)
    torch.testing.assert_close(token_losses(logits, ids)[1], torch.nn.functional.cross_entropy(logits[1], soft))


def test_rows_without_labels_have_a_loss_of_zero_with_a_gradient_of_zero():
    model, sequences = tiny_label_model(TOKENIZER), built([(), ()])
    found = targets(sequences)
    assert found.at.shape == (0,)
    token_losses(model(torch.rand(2, 3, 32, 32), sequences, found.at), found.ids).sum().backward()
    assert all(not parameter.grad.any() for parameter in model.decoder.parameters())


@pytest.mark.parametrize("mode", ["closed", "public"])
def test_logits_are_computed_only_where_asked(mode):
    model, sequences = tiny_label_model(TOKENIZER), built([("cat", "of"), ("dog",)], mode)
    image, found, scored = torch.rand(2, 3, 32, 32), targets(sequences), []
    model.decoder.head.register_forward_hook(lambda *args: scored.append(args[2].shape[0]))
    with torch.no_grad():
        asked = model(image, sequences, found.at)
        whole = model(image, sequences)
    torch.testing.assert_close(asked, whole.flatten(0, 1)[found.at], rtol=0, atol=1e-5)
    assert scored[0] == len(found.at)


def test_with_all_first_tokens_and_positions_from_the_answer_the_order_of_labels_means_nothing():
    model, image = tiny_label_model(TOKENIZER), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    losses = []
    for labels in itertools.permutations(("cat", "toad", "bird")):
        sequences = built([labels], restart_positions=True)
        found = targets(sequences, "multi")
        with torch.no_grad():
            each = token_losses(model(image, sequences, found.at), found.ids)
        losses.append((each[0], each.sum()))
    first, whole = (torch.stack(values) for values in zip(*losses, strict=True))
    torch.testing.assert_close(first, first[:1].expand(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole, whole[:1].expand(6), rtol=0, atol=1e-4)
    plain = [built([labels]) for labels in (("cat", "toad", "bird"), ("bird", "cat", "toad"))]
    with torch.no_grad():
        sums = [token_losses(model(image, one, targets(one).at), targets(one).ids).sum() for one in plain]
    assert (sums[0] - sums[1]).abs() > 1e-3, "otherwise it does"
