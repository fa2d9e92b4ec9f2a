import pytest

from training.doctor.__main__ import main


@pytest.mark.parametrize(
    "words,said",
    [
        (["--seconds", "3", "--batch-size", "4"], "--batch-size, --seconds: only with --report"),
        (["--output", "page.md"], "--output: only with --report"),
        (["--report", "--batch-size", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err


def test_a_model_of_no_known_name_is_refused_before_anything_is_measured(tmp_path, capsys):
    path = tmp_path / "report.md"
    assert main(["--report", "--device", "cpu", "--model", "ViT-B-23", "--output", str(path)]) == 2
    assert "no model is called 'ViT-B-23'" in capsys.readouterr().out
    assert not path.exists()


@pytest.mark.parametrize("place", ["absent/report.md", ".", "file/report.md"])
def test_a_place_that_takes_no_file_is_refused_before_anything_is_measured(tmp_path, capsys, place):
    (tmp_path / "file").touch()
    assert main(["--report", "--device", "cpu", "--output", str(tmp_path / place)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"not written  {tmp_path / place}: ")
    assert line.endswith("Choose another place with --output")
