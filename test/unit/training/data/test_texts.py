import pytest
import torch

import open_clip
from open_clip.transformer.text_rows import embed_texts
from training.data import Batch, ReadingRule, TextPlanner
from training.data.walk import tensors_in

CAPTIONS = ["a", "a dog on the beach beside a red ball", "two cats " * 12, "word " * 90]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return open_clip.create_model("ViT-micro-8-32").eval()


@pytest.fixture(scope="module")
def texts():
    return open_clip.get_tokenizer("ViT-micro-8-32")(CAPTIONS)


@pytest.mark.parametrize("shapes", ["packed", "bucketed", "padded"])
def test_a_planned_batch_gives_the_features_of_the_whole_rows(model, texts, shapes):
    planned = TextPlanner(shapes, ReadingRule.of(model))(texts)
    whole = model.ln_final(model.transformer(embed_texts(model, texts), is_causal=True))
    whole = whole[torch.arange(len(texts)), texts.argmax(-1)] @ model.text_projection
    # 5e-7 is what the project allows for features; the sums are only taken in another order.
    torch.testing.assert_close(model.encode_text(planned), whole, atol=5e-7, rtol=1e-5)


def test_padded_is_one_run_of_all_positions(texts):
    planned = TextPlanner("padded", ReadingRule("argmax", 2))(texts)
    assert planned.layout.shapes == ((4, texts.shape[1]),)


def test_texts_are_planned_by_the_token_that_the_model_reads():
    texts = torch.tensor([[9, 2, 8, 0], [9, 7, 2, 0]])
    ends = {rule: TextPlanner("padded", ReadingRule(rule, 2))(texts).layout.ends.tolist() for rule in ("argmax", "eos")}
    assert ends == {"argmax": [0, 0], "eos": [1, 2]}
    assert TextPlanner("packed", ReadingRule("eos", 2))(texts).lengths.tolist() == [2, 3]


def test_the_rule_is_found_in_a_tower_of_its_own_too(model):
    custom = open_clip.create_model("ViT-micro-8-32", force_custom_text=True)
    assert ReadingRule.of(custom) == ReadingRule.of(model)


def test_a_batch_takes_its_plan_along(texts):
    planner = TextPlanner("packed", ReadingRule("argmax", 2))
    batch = Batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), planner(texts))
    moved = batch.to("meta")
    assert {tensor.device.type for tensor in tensors_in(moved)} == {"meta", "cpu"}
    assert {tensor.device.type for tensor in (moved.texts.ids, *tensors_in(moved.texts.layout))} == {"meta"}
    assert moved.texts.layout.shapes == batch.texts.layout.shapes
    assert moved.texts.lengths is batch.texts.lengths
