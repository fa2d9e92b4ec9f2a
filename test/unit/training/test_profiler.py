import csv
import json

import pytest

import open_clip
from open_clip.errors import ConfigError
from tiny_models import tiny_clip, tiny_config, write_config
from toy_families import ImageFamily, added
from training import profile
from training.profiler import (
    count_params,
    list_two_towers,
    main,
    profile_model,
    profile_torch_image,
    profile_torch_text,
)


@pytest.fixture
def name(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "profiled-tiny", tiny_config()))
    return "profiled-tiny"


def test_a_model_is_described_whole_and_by_tower(name):
    found = profile_model(name)
    assert found["model"] == name
    assert found["mparams"] == round(count_params(open_clip.create_model(name)) / 1e6, 2)
    assert found["gflops"] == pytest.approx(found["image_gflops"] + found["text_gflops"], abs=0.02)


def test_a_family_without_texts_is_counted_on_images(tmp_path):
    with added(tmp_path / "profiled-toy.json") as add:
        add(ImageFamily(), {"width": 6})
        found = profile_model("profiled-toy", batch_size=1 << 16)
    assert (found["image_size"], found["text_mparams"], found["text_gflops"], found["text_width"]) == (8, 0, 0, 0)
    # A convolution of one place and two linear layers; a product and a sum are two operations.
    expected = 2 * (3 * 64 + 6 + 6) * 6 * (1 << 16) / 1e9
    assert found["gflops"] == found["image_gflops"] == pytest.approx(expected, abs=0.01)


def test_the_head_of_a_classifier_counts(tmp_path):
    cfg = {key: value for key, value in tiny_config().items() if key in ("embed_dim", "vision_cfg")}
    classes = [f"class {number}" for number in range(20_000)]
    path = tmp_path / "profiled-classes.json"
    path.write_text(json.dumps(cfg | {"family": "image_classifier", "classes": classes}))
    with added(path):
        open_clip.add_model_config(path)
        found = profile_model("profiled-classes", batch_size=100)
    head = 2 * cfg["embed_dim"] * len(classes) * 100 / 1e9
    assert found["gflops"] - found["image_gflops"] == pytest.approx(head, abs=0.02)
    assert found["embed_dim"] == cfg["embed_dim"]


def test_the_table_is_written_to_a_file_or_shown(name, tmp_path, capsys):
    main(["--model", f"{name},{name}", "--results-file", str(tmp_path / "table.csv")])
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == [name, name]
    profile.main(["--model", name])
    assert capsys.readouterr().out.startswith("model,image_size")


def test_all_are_the_models_with_two_towers(name, tmp_path):
    with added(tmp_path / "images-alone.json") as add:
        add(ImageFamily(), {"width": 6})
        assert "images-alone" in open_clip.list_models()
        assert name in list_two_towers()
        assert "images-alone" not in list_two_towers()


def test_another_counter_than_torchs_is_refused(name):
    with pytest.raises(ConfigError, match="there is only torch"):
        profile_model(name, profiler="fvcore")


def test_all_positions_count_whether_they_are_read_or_not():
    model = tiny_clip(custom_text=True)
    products = 2 * 12 * 64**2 * 2
    assert profile_torch_text(model.text, (16,)) >= 16 * products
    assert profile_torch_image(model.visual, (3, 32, 32)) >= 17 * products
