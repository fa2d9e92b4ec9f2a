"""What a run shows first: ten lines on the screen, every setting in the files."""

import re

from pairs import make_pairs, micro_flags
from training.main import main


def test_the_screen_names_model_data_steps_and_folder_and_the_file_every_setting(tmp_path, capfd):
    train, val = make_pairs(tmp_path, 20, 2, name="train.csv"), make_pairs(tmp_path, 6, 2, seed=1, name="val.csv")
    flags = micro_flags(train, val, logs_dir=tmp_path / "logs", name="run", epochs=2, warmup=100)
    assert main(flags) == 0
    before = capfd.readouterr().err.partition("Start epoch 0")[0]
    assert len(before.splitlines()) <= 17
    for wanted in (
        r"model +ViT-micro-8-32, [\d,]+ parameters",
        r"device .* \(cpu\), 1 process, precision fp32",
        r"training +40 rows an epoch from .*train\.csv",
        r"steps +10 of 8 rows: 2 epochs of 5 steps",
        r"learning rate +rises to 0\.001 over --warmup 100 steps; this run ends before, at 0\.0001",
        r"validation +12 rows with 6 images from .*val\.csv",
        r"folder .*run \(all settings: params\.txt",
        r"to stop +press Ctrl-C once; it saves\. Go on with:\n.*--config .*config\.yaml --name run --resume latest",
    ):
        assert re.search(wanted, before), wanted
    assert "Params:" not in before
    log = (tmp_path / "logs" / "run" / "out.log").read_text(encoding="utf-8")
    assert "Params:\n  accum_freq: 1\n" in log
    assert "Created AdamW" in log
    assert "  warmup: 100" in log


def test_without_a_folder_the_settings_are_on_the_screen_for_there_is_no_file(tmp_path, capfd):
    table = make_pairs(tmp_path, 20, 2)
    assert main(micro_flags(table, None, logs_dir="None", epochs=1, accum_freq=2)) == 0
    shown = capfd.readouterr().err
    assert "Params:" in shown
    assert "2 batches a step" in shown
    assert "nothing is saved" in shown
