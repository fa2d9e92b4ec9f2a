import torch

from open_clip.coca_model import prepare_inputs_for_generation


def test_positions_are_counted_over_the_mask_and_only_the_last_token_follows_a_past():
    ids, mask = torch.tensor([[4, 5, 6]]), torch.tensor([[0, 1, 1]])
    inputs = prepare_inputs_for_generation(ids, "images", past=object(), attention_mask=mask)
    assert inputs["text"].tolist() == [[6]]
    assert inputs["position_ids"].tolist() == [[1, 0, 1]]
    assert inputs["images"] == "images"


def test_without_mask_and_past_the_ids_pass_whole():
    ids = torch.tensor([[4, 5]])
    inputs = prepare_inputs_for_generation(ids, None)
    assert inputs["text"] is ids
    assert inputs["position_ids"] is inputs["attention_mask"] is None
