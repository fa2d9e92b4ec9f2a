import pytest

from training.report.recall import RECALL_ROWS, chance_levels
from training.report.summary import StepTimes, format_duration, format_summary

METRICS = (
    {f"image_to_text_R@{k}": share for k, share in ((1, 0.125), (5, 0.5125), (10, 1.0))}
    | {f"text_to_image_R@{k}": 0.25 for k in (1, 5, 10)}
    | {f"text_retrieval_recall@{k}": 0.75 for k in (1, 5, 10)}
    | {f"image_retrieval_recall@{k}": 0.5 for k in (1, 5, 10)}
    | {"num_images": 200, "num_texts": 1000}
)


def summary_of(times, **changes):
    values = {
        "epochs": 2,
        "e2e_time_s": 100.0,
        "loss": 1.25,
        "last_loss": 1.125,
        "metrics": METRICS,
        "device": "cpu",
        "world_size": 2,
        "status": "finished",
        "checkpoint": "logs/a/checkpoints/epoch_2.pt",
        "report": "logs/a/report.html",
    }
    own = {"fps": times.fps(), "fps_all_steps": times.fps_all_steps(), "steps": times.num_steps}
    return own | {"train_time_s": times.total_s} | values | changes


def test_fps_is_the_global_batch_over_the_mean_of_the_last_hundred_steps():
    times = StepTimes(global_batch=64)
    for seconds in [10.0] * 5 + [0.5] * 100:
        times.add(seconds)
    assert times.fps() == pytest.approx(128.0)
    assert times.fps_all_steps() == pytest.approx(64 * 105 / 100)
    assert times.total_s == pytest.approx(100.0)


def test_no_step_gives_no_fps():
    assert StepTimes(8).fps() is None
    assert StepTimes(8).fps_all_steps() is None


def test_the_final_block_fits_80_columns_and_names_both_definitions():
    times = StepTimes(1024)
    for _ in range(120):
        times.add(0.3064)
    block = format_summary(summary_of(times, e2e_time_s=12345.0))
    assert max(len(line) for line in block.splitlines()) <= 80
    for part in (
        "one to one",
        "any caption",
        "200 images, 1,000 texts",
        "chance",
        "51.2",
        "epoch_2.pt",
        "report.html",
    ):
        assert part in block
    assert "3,342.0 samples/s" in block


@pytest.mark.parametrize("metrics", [METRICS, {}, METRICS | {"num_images": 5000, "num_texts": 25_010}])
def test_at_60_columns_lines_break_between_words_only(metrics):
    times = StepTimes(1024)
    times.add(0.00503064, 120)
    summary = summary_of(times, e2e_time_s=12345.0, metrics=metrics)
    narrow, wide = format_summary(summary, columns=60), format_summary(summary, columns=200)
    assert max(len(line) for line in narrow.splitlines()) <= 60
    assert [one for one in narrow.split() if "--" not in one] == [one for one in wide.split() if "--" not in one]


def test_the_block_takes_the_terminals_width_up_to_80(monkeypatch):
    for columns, width in (("60", 60), ("80", 80), ("200", 80)):
        monkeypatch.setenv("COLUMNS", columns)
        assert len(format_summary(summary_of(StepTimes(8))).splitlines()[-1]) == width


@pytest.mark.parametrize(
    "epochs, text", [(0, "0 complete epochs"), (1, "1 complete epoch\n"), (2, "2 complete epochs")]
)
def test_one_epoch_is_not_called_epochs(epochs, text):
    times = StepTimes(8)
    times.add(0.5)
    assert f"Steps        1 in {text}" in format_summary(summary_of(times, epochs=epochs), columns=80)


@pytest.mark.parametrize("steps, text", [(20, "all steps\n"), (101, "the last 100 steps, 16.0 over all\n")])
def test_the_throughput_names_no_more_steps_than_there_were(steps, text):
    times = StepTimes(8)
    times.add(0.5, steps)
    assert f"16.0 samples/s over {text}" in format_summary(summary_of(times), columns=80)


def test_the_wall_time_of_a_resumed_run_is_that_of_its_last_start():
    times = StepTimes(8)
    times.add(30.0, 10)
    summary = summary_of(times) | {"is_resumed": True}
    assert "5 min 00 s in training steps, 1 min 40 s since the last start\n" in format_summary(summary, columns=80)


def test_an_evaluation_has_no_rows_about_training():
    block = format_summary(summary_of(StepTimes(8)), columns=80)
    assert "any caption" in block
    assert not any(word in block for word in ("Throughput", "Loss", "Steps", "training steps", "-  "))


def test_the_final_block_of_a_run_without_evaluation_says_so():
    block = format_summary(
        summary_of(StepTimes(8), metrics=None, loss=None, last_loss=None, status="stopped", report=None)
    )
    assert "No evaluation in this run" in block
    assert "Run stopped" in block
    assert "Report" not in block


def test_chance_one_to_one_is_k_of_the_rows_both_ways():
    levels = {(row.definition, row.direction): chance_levels(row, 200, 1000) for row in RECALL_ROWS}
    assert levels["one to one", "image_to_text"] == pytest.approx([0.001, 0.005, 0.01])
    assert levels["one to one", "text_to_image"] == pytest.approx([0.001, 0.005, 0.01])
    assert levels["any caption", "text_to_image"] == pytest.approx([0.005, 0.025, 0.05])
    assert levels["any caption", "image_to_text"][0] == pytest.approx(0.005)
    assert levels["any caption", "image_to_text"][1] == pytest.approx(0.0248, abs=1e-4)


@pytest.mark.parametrize("num_images, num_texts", [(1, 1), (2, 2), (4, 20)])
def test_chance_stays_a_share_in_tiny_sets(num_images, num_texts):
    for row in RECALL_ROWS:
        assert all(0 < level <= 1 for level in chance_levels(row, num_images, num_texts))


def test_chance_is_what_random_features_reach():
    import torch

    from training.evaluate.retrieval import retrieval_metrics

    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(100).repeat_interleave(5)
    sums = dict.fromkeys(METRICS, 0.0)
    for _ in range(60):
        images = torch.randn(100, 32, generator=generator)[ids]
        metrics = retrieval_metrics(images, torch.randn(500, 32, generator=generator), ids)
        for name in sums:
            sums[name] += metrics[name] / 60
    for row in RECALL_ROWS:
        assert row.values(sums) == pytest.approx(chance_levels(row, 100, 500), rel=0.25, abs=0.002)


@pytest.mark.parametrize("seconds, text", [(12.34, "12.3 s"), (245, "4 min 05 s"), (7620, "2 h 07 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert format_duration(seconds) == text


def test_a_run_that_was_stopped_before_its_first_evaluation_is_not_told_to_give_data():
    block = format_summary(summary_of(StepTimes(8), metrics=None) | {"evaluates": True}, columns=80)
    assert "No evaluation in this run (it ended before the first)." in block
    assert "give --val-data" in format_summary(summary_of(StepTimes(8), metrics=None), columns=80)
