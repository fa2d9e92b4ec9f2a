import csv

import pytest

import open_clip
from open_clip.errors import ConfigError
from tiny_models import tiny_clip, tiny_config, write_config
from training import profile
from training.profiler import count_params, main, profile_model, profile_torch_image, profile_torch_text


@pytest.fixture
def name(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "profiled-tiny", tiny_config()))
    return "profiled-tiny"


def test_a_model_is_described_whole_and_by_tower(name):
    found = profile_model(name)
    assert found["model"] == name
    assert found["mparams"] == round(count_params(open_clip.create_model(name)) / 1e6, 2)
    assert found["gflops"] == pytest.approx(found["image_gflops"] + found["text_gflops"], abs=0.02)


def test_the_table_is_written_to_a_file_or_shown(name, tmp_path, capsys):
    main(["--model", f"{name},{name}", "--results-file", str(tmp_path / "table.csv")])
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == [name, name]
    profile.main(["--model", name])
    assert capsys.readouterr().out.startswith("model,image_size")


def test_another_counter_than_torchs_is_refused(name):
    with pytest.raises(ConfigError, match="there is only torch"):
        profile_model(name, profiler="fvcore")


def test_all_positions_count_whether_they_are_read_or_not():
    model = tiny_clip(custom_text=True)
    products = 2 * 12 * 64**2 * 2
    assert profile_torch_text(model.text, (16,)) >= 16 * products
    assert profile_torch_image(model.visual, (3, 32, 32)) >= 17 * products
