import pytest
import torch

from open_clip.generation.cached import CachedDecoder, can_cache
from open_clip.generation.decoder import PrefixDecoder
from open_clip.generation.generate import make_decoder
from tiny_models import tiny_batch, tiny_coca

TOWERS = {
    "class-token": {},
    "class-token-mask-put-right": {},
    "no-class-token": {"text": {"embed_cls": False}},
    "layer-scale": {"text": {"ls_init_value": 0.4}, "decoder": {"ls_init_value": 0.3}},
}


def _both(name, window=15, rows_per_image=2):
    model = tiny_coca(seed=3, change=0.2, **TOWERS[name])
    model.text.correct_cls_mask = name == "class-token-mask-put-right"
    encoded = model(tiny_batch(2)[0])
    arguments = (model, encoded["image_features"], encoded["image_embs"], rows_per_image, window)
    return make_decoder(*arguments), PrefixDecoder(*arguments)


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("prompt", [1, 4])
@torch.no_grad()
def test_kept_keys_and_values_give_the_scores_of_the_whole_text(name, prompt):
    cached, whole = _both(name)
    assert (type(cached), type(whole)) == (CachedDecoder, PrefixDecoder)
    # Zeros among the words: upstream's mask of filled places forbids what stands behind them.
    ids = torch.randint(1, 6, (4, 15), generator=torch.Generator().manual_seed(1)) % 4
    ids[:, 0] = 598
    for length in range(prompt, 16):
        torch.testing.assert_close(
            cached.next_logits(ids[:, :length]), whole.next_logits(ids[:, :length]), atol=2e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_rows_may_change_places_within_their_image(name):
    cached, whole = _both(name)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 598, (4, 3), generator=generator)
    for rows in ([0, 0, 3, 2], [1, 0, 2, 2], [1, 1, 3, 3]):
        torch.testing.assert_close(cached.next_logits(ids), whole.next_logits(ids), atol=2e-5, rtol=1e-5)
        cached.reorder(torch.tensor(rows))
        ids = torch.cat([ids[rows], torch.randint(1, 598, (4, 1), generator=generator)], dim=1)


@torch.no_grad()
def test_a_text_longer_than_the_window_is_read_from_its_end():
    cached, whole = _both("class-token", window=5)
    ids = torch.randint(1, 598, (4, 9), generator=torch.Generator().manual_seed(4))
    for length in range(3, 10):
        torch.testing.assert_close(
            cached.next_logits(ids[:, :length]), whole.next_logits(ids[:, :length]), atol=2e-5, rtol=1e-5
        )


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"block_type": "custom"}])
def test_towers_that_cannot_be_read_token_by_token_are_read_whole(text):
    model = tiny_coca(text=text)
    assert not can_cache(model.text)
    encoded = model(tiny_batch(2)[0])
    decoder = make_decoder(model, encoded["image_features"], encoded["image_embs"], 1, 77)
    assert type(decoder) is PrefixDecoder
    assert decoder.window == 15
