"""Nothing planted in a run folder is followed, nothing secret is written, and no failed start blocks a name."""

import argparse
import os

import pytest

from open_clip.errors import ConfigError
from training.params import CheckpointParams, parse_args
from training.run_folder import choose_name, describe_run, find_folder, hold_folder

SECRET = "wJalrXUtnFEMI"


def folder_of(logs, resume=None):
    params = CheckpointParams(logs_dir=str(logs), resume=resume)
    return params, find_folder(params, "run")


@pytest.mark.parametrize("name", ["a/b", "..", " ", "a\nb", "\x1b[31mred", "a\u202eb", "x" * 241, "\u4e2d" * 100, ""])
def test_a_name_that_is_no_plain_folder_name_is_refused(name):
    with pytest.raises(ConfigError, match="--name") as caught:
        parse_args(["--name", name])
    assert str(caught.value).isprintable()


def test_a_name_in_chinese_is_fine():
    assert choose_name(argparse.Namespace(name="\u56fe\u6587 1")) == "\u56fe\u6587 1"


def test_a_long_model_name_makes_no_name_that_a_file_system_refuses():
    args = argparse.Namespace(
        name=None, model="local-dir:/" + "a" * 500, lr=1e-3, batch_size=1, workers=1, precision="fp32"
    )
    assert len(choose_name(args)) < 200


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "stacks", "profile", "results"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_a_link_in_a_folders_place_is_refused_with_its_name(tmp_path, name, kind):
    params, folder = folder_of(tmp_path / "logs", "latest")
    folder.root.mkdir(parents=True)
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("precious")
    (folder.root / name).symlink_to(target)
    with pytest.raises(ConfigError, match=name), hold_folder(params, folder):
        pass


@pytest.mark.parametrize("name", ["out.log", "metrics.jsonl", "bad_samples.jsonl", "out-3.log", "stacks/rank-0.txt"])
def test_a_link_where_a_run_appends_is_refused_with_its_name(tmp_path, name):
    params, folder = folder_of(tmp_path / "logs", "latest")
    (folder.root / name).parent.mkdir(parents=True)
    (folder.root / name).symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match=name), hold_folder(params, folder):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_linked_logs_folder_is_the_users_own_choice(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to(tmp_path / "disk")
    params, folder = folder_of(tmp_path / "logs")
    with hold_folder(params, folder):
        assert (tmp_path / "disk" / "run").is_dir()


def test_a_start_that_is_taken_back_leaves_the_name_free_and_a_list_of_rows(tmp_path):
    params, folder = folder_of(tmp_path)
    with hold_folder(params, folder):
        assert folder.is_new
        for name in ("out.log", "params.txt", "config.yaml"):
            (folder.root / name).write_text("x")
        assert not folder.is_new
        folder.take_back()
    assert not folder.root.exists()
    with hold_folder(params, folder):
        (folder.root / "bad_samples.jsonl").write_text("x")
        (folder.root / "out.log").write_text("x")
        folder.take_back()
    assert os.listdir(folder.root) == ["bad_samples.jsonl"]
    with hold_folder(params, folder):
        assert folder.is_new
        (folder.root / "out.log").write_text("x")
    with pytest.raises(ConfigError, match="already in"), hold_folder(params, folder):
        pass


def test_what_a_killed_run_left_half_written_goes_with_the_next_start_and_nothing_else(tmp_path):
    params, folder = folder_of(tmp_path, resume="latest")
    (folder.root / "profile").mkdir(parents=True)
    left = [folder.root / ".tmp-report.html-77", folder.root / "profile" / ".tmp-77-rank-0.json.gz"]
    others = [folder.root / "notes.txt", tmp_path / ".tmp-of-another-run"]
    for path in (*left, *others):
        path.write_text("half")
    (folder.root / ".tmp-link").symlink_to(others[1])
    with hold_folder(params, folder):
        assert not any(path.exists() for path in left)
    assert not os.path.lexists(folder.root / ".tmp-link")
    assert all(path.exists() for path in others)


def test_settings_are_saved_without_secrets_and_asked_for_again(tmp_path):
    url = f"https://host/{{00..07}}.tar?X-Amz-Signature={SECRET}"
    words = ["--train-data", url, "--train-num-samples", "8", "--dataset-type", "webdataset"]
    args = parse_args(words)
    _, folder = folder_of(tmp_path)
    folder.root.mkdir()
    (tmp_path / "victim").write_text("precious")
    for name in ("params.txt", "config.yaml"):
        (folder.root / name).symlink_to(tmp_path / "victim")
    describe_run(folder, args)
    assert (tmp_path / "victim").read_text() == "precious"
    for name in ("params.txt", "config.yaml"):
        assert SECRET not in (folder.root / name).read_text()
    saved = ["--config", str(folder.root / "config.yaml")]
    with pytest.raises(ConfigError, match="--train-data: the secret in it was left out"):
        parse_args(saved)
    assert parse_args([*saved, "--train-data", url]).train_data == url


def test_settings_that_cannot_be_written_refuse_a_first_start_and_no_later_one(tmp_path, caplog):
    args = parse_args(["--train-data", "a.csv", "--name", "a"])
    _, folder = folder_of(tmp_path)
    folder.root.mkdir()
    (folder.root / "params.txt").mkdir()  # no file takes its place
    with pytest.raises(ConfigError, match="--logs-dir: cannot write to"):
        describe_run(folder, args)
    (folder.root / "config.yaml").write_text("model: RN50\n")
    describe_run(folder, args)
    assert "those that are there stay" in caplog.text


def test_settings_without_secrets_repeat_the_run(tmp_path):
    args = parse_args(["--train-data", "s3://bucket/{0..7}.tar", "--name", "a"])
    _, folder = folder_of(tmp_path)
    folder.root.mkdir()
    describe_run(folder, args)
    again = parse_args(["--config", str(folder.root / "config.yaml"), "--name", "a"])
    assert {**vars(again), "config": None} == vars(args)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    params, folder = folder_of(tmp_path)
    with pytest.raises(ConfigError, match="cannot write to"), hold_folder(params, folder):
        pass


@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir, lambda path: os.symlink(path.parent.parent / "victim", path)])
def test_what_stands_in_the_place_of_the_lock_is_named_and_left_alone(tmp_path, plant):
    params, folder = folder_of(tmp_path)
    folder.root.mkdir()
    plant(folder.root / "run.lock")
    with pytest.raises(ConfigError, match=r"cannot write to .*run\.lock: "), hold_folder(params, folder):
        pass
    assert os.listdir(folder.root) == ["run.lock"]
    assert not (tmp_path / "victim").exists()
