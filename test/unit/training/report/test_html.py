import contextlib
import json
import re

import pytest

from open_clip.errors import DataError
from run_folders import INLINE_JPEG, METRICS, Page, write_gallery, write_whole_run
from training.report.__main__ import main
from training.report.html import write_report
from training.report.jsonl import MetricsWriter

SECTIONS = ["figures", "recall", "curves", "evaluations", "gallery", "configuration", "hardware", "events"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my-run"


def page_of(folder):
    page = Page(write_report(folder))
    assert page.errors == []
    assert page.open == []
    return page


def test_a_whole_run_shows_every_section(folder):
    page = page_of(write_whole_run(folder))
    assert page.ids() == SECTIONS
    for text in ("my-run", "Finished", "2 \u00d7 Some Processor", "43.8\u00a0%", "641.5/s", "4.2500", "1 min 01 s"):
        assert text in page.text
    for text in ("200 images and 1,000 texts", "any caption", "chance 0.5\u00a0%", "csv_separator", "2.14.0"):
        assert text in page.text
    for text in ("resume", "checkpoints/step_30.pt", "1 bad sample left out", "image file is empty"):
        assert text in page.text
    # Loss, throughput, learning rate and logit scale; recall in both directions and definitions, validation loss.
    assert page.count("svg") == 9


def test_the_page_opens_without_network(folder):
    page = page_of(write_whole_run(folder))
    assert page.count("script") == 1
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "url(" not in (folder / "report.html").read_text()
    assert "@import" not in (folder / "report.html").read_text()


def test_the_browser_is_told_to_run_nothing_but_the_pages_own_script(folder):
    import base64
    import hashlib

    page = page_of(write_whole_run(folder))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", (folder / "report.html").read_text(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">"\' onload=\'x'


def test_text_from_outside_never_becomes_markup(tmp_path):
    folder = write_whole_run(tmp_path / "a<b>&'quoted'")
    words = dict.fromkeys(("intro", "images_title", "own_title"), HOSTILE)
    write_gallery(folder, caption=HOSTILE, name=HOSTILE, **words)
    (folder / "config.yaml").write_text(json.dumps({"model": HOSTILE, HOSTILE: HOSTILE}))
    (folder / "bad_samples.jsonl").write_text(json.dumps(dict.fromkeys(("source", "row", "path", "reason"), HOSTILE)))
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        writer.write("run", device={"name": HOSTILE}, versions={HOSTILE: HOSTILE}, precision={"note": HOSTILE})
        writer.event(HOSTILE, 60, **{HOSTILE: HOSTILE})
        writer.write("eval", epoch=3, step=70, metrics={HOSTILE: 1.0})
    summary = json.loads((folder / "summary.json").read_text()) | {"status": HOSTILE, "device": HOSTILE}
    summary["metrics"][HOSTILE] = 0.5
    (folder / "summary.json").write_text(json.dumps(summary))
    page = page_of(folder)
    assert page.count("script") == 1
    assert not any("onerror" in attrs or "onload" in attrs for _, attrs in page.tags)
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for tag, attrs in page.tags if tag == "img")
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize(
    "uri", ["https://example.com/x.jpg", "data:text/html;base64,PGI+", 'data:image/jpeg;base64,AA" onload="x', None, 7]
)
def test_a_thumbnail_that_is_no_inline_jpeg_is_not_shown(folder, uri):
    write_whole_run(folder)
    write_gallery(folder, caption="A dog .", uri=uri)
    page = page_of(folder)
    assert page.count("img") == 0
    assert "not readable" in page.text


def test_a_gallery_that_is_none_of_retrieval_says_what_it_shows(folder):
    write_whole_run(folder)
    write_gallery(folder, caption="A dog .")
    assert "cosine similarities" in page_of(folder).text
    write_gallery(folder, caption="dog", intro="Labels.", images_title="Images and labels", own_title="Of the data")
    text = page_of(folder).text
    assert all(words in text for words in ("Labels.", "Images and labels", "Of the data"))
    assert "cosine similarities" not in text
    assert "Its own caption" not in text


def test_a_huge_caption_is_cut(folder):
    write_whole_run(folder)
    write_gallery(folder, caption="word " * 5000)
    page = page_of(folder)
    assert len(page.text) < 10_000
    assert "word\u2026" in page.text


def test_strange_characters_survive(folder):
    write_whole_run(folder)
    write_gallery(folder, caption="\ud800 \x00 \u202e abc \u4e24\u4e2a\u5e74\u8f7b\u4eba")
    assert "\u4e24\u4e2a\u5e74\u8f7b\u4eba" in page_of(folder).text


def test_right_and_wrong_are_told_by_symbol_and_words(folder):
    page = page_of(write_whole_run(folder))
    for text in ("\u2713 right at place 2", "\u2713 right at first", "wrong: ", "right: "):
        assert text in page.text


def test_an_empty_folder_gives_a_page_that_says_so(folder):
    folder.mkdir()
    page = page_of(folder)
    assert page.ids() == ["figures", "recall"]
    assert "No figure yet" in page.text
    assert "no evaluation yet" in page.text
    assert "Still going on, or killed" in page.text


def test_a_finished_run_without_validation_data_says_how_to_get_some(folder):
    folder.mkdir()
    (folder / "summary.json").write_text('{"status": "finished", "steps": 3}')
    text = page_of(folder).text
    assert "--val-data adds it" in text
    assert "no evaluation yet" not in text


def test_a_run_killed_in_its_first_epoch_shows_what_it_has(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        writer.write("run", world_size=1, device={"name": "Some Processor"})
        for step in (1, 2, 3):
            writer.write("train", step=step, epoch=0, loss=5.0, loss_avg=5.0, lr=1e-5, samples_per_s=99.5)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    page = page_of(folder)
    assert page.ids() == ["figures", "recall", "curves", "hardware"]
    assert "99.5/s" in page.text
    assert "Still going on, or killed" in page.text


def test_a_run_without_gallery_or_second_evaluation_leaves_these_out(folder):
    write_whole_run(folder, steps=20, epochs=1)
    (folder / "gallery.json").unlink()
    assert page_of(folder).ids() == [name for name in SECTIONS if name not in ("gallery", "evaluations")]


def test_an_evaluation_alone_needs_no_training(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        writer.write("eval", epoch=0, step=0, metrics=METRICS)
    page = page_of(folder)
    assert "43.8\u00a0%" in page.text
    assert "curves" not in page.ids()


@pytest.mark.parametrize("name", ["summary.json", "gallery.json", "config.yaml", "metrics.jsonl", "bad_samples.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{[",
        b"[1, 2]",
        b'{"images": 3, "metrics": 4, "fps": "fast", "loss": [], "steps": {}}',
        b'{"kind": "train", "step": 1, "loss": NaN, "fps": NaN, "lr": Infinity}',
    ],
)
def test_a_damaged_file_costs_only_its_own_part(folder, name, content):
    write_whole_run(folder)
    (folder / name).write_bytes(content)
    assert "my-run" in page_of(folder).text


def test_records_written_twice_after_a_resume_count_once(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        for loss in (7.0, 5.0):
            writer.write("train", step=1, loss=loss)
            writer.write("train", step=2, loss=loss - 1)
    page = page_of(folder)
    chart = json.loads(next(attrs["data-chart"] for tag, attrs in page.tags if attrs.get("data-chart")))
    assert chart["lines"] == [{"x": [1, 2], "y": [5.0, 4.0]}]


def test_a_hundred_thousand_steps_stay_under_three_megabytes_and_keep_their_spike(folder):
    write_whole_run(folder)
    lines = [
        json.dumps({"kind": "train", "step": step, "loss": 77.25 if step == 61_803 else 2 + step % 7 / 10, "lr": 1e-4})
        for step in range(1, 100_001)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page = page_of(folder)
    assert (folder / "report.html").stat().st_size < 3_000_000
    chart = json.loads(next(attrs["data-chart"] for tag, attrs in page.tags if attrs.get("data-chart")))
    assert 77.25 in chart["lines"][0]["y"]
    assert 61_803 in chart["lines"][0]["x"]


def test_losses_that_are_not_finite_leave_a_gap(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        for step, loss in enumerate((3.0, float("nan"), float("inf"), 2.0), start=1):
            writer.write("train", step=step, loss=loss)
    chart = json.loads(next(attrs["data-chart"] for tag, attrs in page_of(folder).tags if attrs.get("data-chart")))
    assert chart["lines"][0]["x"] == [1, 4]


def test_writing_again_replaces_the_file_and_leaves_nothing_else(folder):
    write_whole_run(folder)
    before = {one.name for one in folder.iterdir()}
    assert write_report(folder) == write_report(folder) == folder / "report.html"
    assert {one.name for one in folder.iterdir()} == before | {"report.html"}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no run folder at .*nowhere"):
        write_report(tmp_path / "nowhere")


def test_the_command_draws_a_report_and_answers_with_the_error_status(folder, tmp_path, caplog):
    write_whole_run(folder)
    assert main([str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert main([str(tmp_path / "nowhere")]) == 3


def test_a_right_answer_at_a_later_place_is_no_miss(folder):
    classes = [attrs.get("class") or "" for _, attrs in page_of(write_whole_run(folder)).tags]
    verdicts = [one for one in classes if one.startswith("verdict")]
    assert verdicts == ["verdict later", "verdict right"]


def test_a_made_up_name_gives_way_to_a_title_for_people(tmp_path):
    name = "2026_12_01-03_33_02-model_ViT-B-32-lr_0.001-b_128-j_1-p_amp"
    run = write_whole_run(tmp_path / name)
    (run / "config.yaml").write_text("model: ViT-B-32\ntrain_data: /data/sets/emoji_train.csv\n")
    page = page_of(run)
    assert "ViT-B-32, trained on emoji_train.csv" in page.text
    assert name in page.text
    (run / "config.yaml").write_text("model: [1]\ntrain_data: {a: b}\n")
    assert name in page_of(run).text


def write_evals(folder, *values):
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        for epoch, (recall, loss) in enumerate(values, start=1):
            metrics = {"image_to_text_R@5": recall, "text_to_image_R@5": recall, "clip_val_loss": loss}
            writer.write("eval", epoch=epoch, step=10 * epoch, metrics=metrics)


def test_the_best_epoch_and_a_rising_validation_loss_are_remarked(folder):
    write_evals(folder, (0.1, 4.0), (0.5, 3.0), (0.25, 3.5))
    text = page_of(folder).text
    assert "Best epoch: 2, with a mean R@5 of 50.0\u00a0%; the last one, 3, has 25.0\u00a0%." in text
    assert "The validation loss was lowest after epoch 2 (3.000) and has risen to 3.500" in text


def test_a_falling_validation_loss_needs_no_word(folder):
    write_evals(folder, (0.1, 4.0), (0.5, 3.0), (0.75, 3.001))
    text = page_of(folder).text
    assert "Best epoch: 3, with a mean R@5 of 75.0\u00a0%." in text
    assert "was lowest" not in text


def titles_of_charts(page):
    return [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]


def test_every_loss_figure_and_metric_has_a_curve_and_none_is_folded_away(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        for step in range(1, 5):
            losses = {"contrastive_loss": 2.0 / step, "caption_loss": 1.0 / step}
            writer.write("train", step=step, loss=3.0 / step, losses=losses, figures={"my_own": step / 2})
        for epoch in (1, 2):
            metrics = {"imagenet-zeroshot-val-top1": 0.5, "imagenet-zeroshot-val-top5": 0.7, "my_margin": 0.1 * epoch}
            metrics |= {"image_to_text_mean_rank": 9.0, "image_to_text_median_rank": 7.0, "num_samples": 8}
            writer.write("eval", epoch=epoch, step=2 * epoch, metrics={**metrics, "epoch": epoch})
    page = page_of(folder)
    assert titles_of_charts(page) == [
        "Loss",
        "Contrastive loss",
        "Caption loss",
        "My own",
        "Imagenet-zeroshot-val",
        "My margin",
        "Image to text, one to one, rank",
    ]
    assert page.count("details") == 0
    assert "my_margin" in page.text


def test_evaluations_inside_an_epoch_are_drawn_over_steps(folder):
    folder.mkdir()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        for step, epoch, value in ((4, 0, 0.5), (8, 0, 0.75), (10, 1, 0.25)):
            inside = {} if step == 10 else {"step": step}
            metrics = {"image_to_text_R@5": value, "text_to_image_R@5": value, "epoch": epoch, **inside}
            writer.write("eval", epoch=epoch, step=step, metrics=metrics)
    page = page_of(folder)
    assert "Evaluation over steps" in page.text
    assert "Best step: 8, with a mean R@5 of 75.0\u00a0%; the last one, 10, has 25.0\u00a0%." in page.text
    charts = [json.loads(attrs["data-chart"]) for tag, attrs in page.tags if tag == "figure"]
    assert charts[0]["lines"][0]["x"] == [4, 8, 10]


def write_parts(folder, **evaluations):
    shown = {name: {"epoch": 1, "step": 4, "parts": parts} for name, parts in evaluations.items()}
    (folder / "evaluations.json").write_text(json.dumps({"schema": 1, "evaluations": shown}))


def test_parts_of_evaluations_are_drawn_in_order_and_never_become_markup(folder):
    write_whole_run(folder)
    table = {"kind": "table", "title": HOSTILE, "head": ["class", HOSTILE], "rows": [[HOSTILE, 3], [None, 0.25]]}
    image = {"thumbnail": {"name": HOSTILE, "uri": INLINE_JPEG}, "lines": [HOSTILE]}
    parts = [
        {"kind": "note", "text": "said at first"},
        table,
        {"kind": "images", "title": "shown at last", "images": [image]},
    ]
    write_parts(folder, accuracy=[*parts, {"kind": "of-the-future"}, 7])
    page = page_of(folder)
    assert "shown-accuracy" in page.ids()
    assert page.text.index("said at first") < page.text.index(HOSTILE) < page.text.index("shown at last")
    assert page.count("script") == 1
    assert not any("onerror" in attrs or "onload" in attrs for _, attrs in page.tags)
    # The gallery of an older folder stands in a file of its own.
    assert "gallery" in page.ids()


@pytest.mark.parametrize("part", [{}, {"kind": "table", "rows": 3}, {"kind": "images", "images": [3]}, {"kind": []}])
def test_a_damaged_part_costs_itself(folder, part):
    write_whole_run(folder)
    write_parts(folder, accuracy=[part, {"kind": "note", "text": "still here"}])
    assert "still here" in page_of(folder).text


def test_a_long_path_shows_both_its_ends_and_the_whole_of_it_under_the_pointer(folder):
    write_whole_run(folder)
    path = "/data/" + "deep/" * 30 + "flickr/train.csv"
    (folder / "config.yaml").write_text(f"model: ViT-B-32\ntrain_data: {path}\n")
    page = page_of(folder)
    assert "\u2026/flickr/train.csv" in page.text
    assert path in [attrs.get("title") for _, attrs in page.tags]


@pytest.mark.parametrize("value", ["false", "1e308", "-1e308", "1e999", "1" + "0" * 18, "1" + "0" * 400, '"x"', "[[]]"])
@pytest.mark.parametrize("name", ["step", "time", "loss", "epoch", "metrics"])
def test_a_mutated_record_costs_itself(folder, name, value):
    write_whole_run(folder)
    for kind in ("train", "eval", "event", "run"):
        record = {"kind": kind, "time": 1.0, "step": 70, "epoch": 3, "loss": 1.0, "metrics": METRICS, name: "HERE"}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record).replace('"HERE"', value) + "\n")
    assert "my-run" in page_of(folder).text
