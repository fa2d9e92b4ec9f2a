"""What the tables of a report hold, on the CPU with a small model; both sides are the CPU: fp32 differs in no bit."""

import pytest
import torch

from training.doctor.bench import attention_table, encoding_speed, judge_gradients, model_error, training_speed
from training.doctor.parts import Conditions

CONDITIONS = Conditions("cpu", "ViT-micro-8-32", 4, 0.3)


def test_features_loss_and_gradients_are_compared_in_each_precision():
    found = {finding.what: finding for finding in model_error(CONDITIONS, 60.0)}
    names = ("image features", "text features", "loss", "gradients")
    assert list(found) == [f"{precision}, {name}" for precision in ("fp32", "amp_bf16") for name in names]
    assert {finding.state for finding in found.values()} == {"ok"}
    assert all(float(found[f"fp32, {name}"].cells["max_abs_error"]) == 0.0 for name in names)
    # bfloat16 keeps 8 bits: equal figures would mean that it was not used.
    assert all(float(found[f"amp_bf16, {name}"].cells["relative_error"]) > 1e-4 for name in names)


def test_a_wrong_gradient_names_its_parameter():
    expected = {"a.weight": torch.ones(4), "b.weight": torch.ones(4)}
    assert judge_gradients("x", expected, expected, 0.1).state == "ok"
    found = judge_gradients("x", {"a.weight": torch.ones(4), "b.weight": torch.zeros(4)}, expected, 0.1)
    assert found.state == "wrong"
    assert found.why.endswith("most of it in b.weight")
    found = judge_gradients("x", {"a.weight": torch.ones(4)}, expected, 0.1)
    assert (found.state, found.why) == ("wrong", "only one side has gradients of b.weight")


def test_attention_has_errors_and_times_for_both_ways():
    found = list(attention_table(CONDITIONS, 60.0))
    assert len(found) == 2 * 2 * 2
    assert {finding.state for finding in found} == {"ok"}
    assert all(float(finding.cells["p95 ms"]) >= float(finding.cells["p50 ms"]) > 0 for finding in found)


@pytest.mark.parametrize("table,rows", [(training_speed, ["amp", "amp_bf16"]), (encoding_speed, None)])
def test_speed_has_latencies_and_throughput(table, rows):
    found = list(table(CONDITIONS, 60.0))
    assert {finding.state for finding in found} == {"ok"}, found
    if rows is None:
        rows = [f"{side} features, amp" for _ in (1, 4) for side in ("image", "text")]
        assert [finding.cells["batch"] for finding in found] == ["1", "1", "4", "4"]
    assert [finding.what for finding in found] == rows
    for finding in found:
        mean = float(finding.cells["avg ms"])
        rate = float(finding.cells["samples/s"].replace(",", ""))
        assert rate == pytest.approx(int(finding.cells["batch"]) / mean * 1e3, rel=0.05)
        assert float(finding.cells["p95 ms"]) >= float(finding.cells["p50 ms"])


def test_captions_have_many_lengths_and_padding_is_no_token():
    text = next(finding for finding in training_speed(CONDITIONS, 60.0))
    # 1 to 4 words, with begin and end.
    tokens = 3 + 4 + 5 + 6
    steps_a_second = float(text.cells["samples/s"].replace(",", "")) / 4
    assert float(text.cells["tokens/s"].replace(",", "")) == pytest.approx(tokens * steps_a_second, rel=0.02)


def test_memory_that_runs_out_says_what_to_change(monkeypatch):
    def too_much(*_, **__):
        raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", too_much)
    found = list(training_speed(CONDITIONS, 60.0))
    assert {finding.state for finding in found} == {"failed"}
    assert "try a smaller --batch-size" in found[0].why
