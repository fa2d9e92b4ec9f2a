import pytest

from open_clip.errors import ConfigError
from training.params import check_rules, parse_args


def test_an_empty_command_line_has_all_that_upstreams_data_functions_read():
    args = parse_args([])
    expected = {
        "train_data": None,
        "val_data": None,
        "train_num_samples": None,
        "val_num_samples": None,
        "train_data_upsampling_factors": None,
        "dataset_resampled": False,
        "dataset_type": "auto",
        "csv_separator": "\t",
        "csv_img_key": "filepath",
        "csv_caption_key": "title",
        "imagenet_val": None,
        "imagenet_v2": None,
        "batch_size": 64,
        "workers": 4,
        "seed": 0,
        "allow_pipe_urls": False,
    }
    assert {name: getattr(args, name) for name in expected} == expected
    args.world_size = 8
    assert args.world_size == 8


def test_synthetic_data_needs_a_number_of_pairs_and_no_path(caplog):
    with pytest.raises(ConfigError, match="--train-num-samples N"):
        check_rules(parse_args(["--dataset-type", "synthetic"]))
    with pytest.raises(ConfigError, match="at least 1"):
        check_rules(parse_args(["--dataset-type", "synthetic", "--train-num-samples", "0"]))
    check_rules(parse_args(["--dataset-type", "synthetic", "--train-num-samples", "8", "--train-data", "a.csv"]))
    assert "--train-data has no effect" in caplog.text
    check_rules(parse_args(["--dataset-type", "csv", "--train-data", "a.csv", "--train-num-samples", "8"]))
    assert "--train-num-samples has no effect" in caplog.text
