"""A class is found by its name among ours, or in a file of the user's; what cannot be found is told plainly."""

import pytest

import training.tasks
from open_clip.errors import ConfigError
from training.params import RunParams, parse_args
from training.params.plugins import absolute, class_names, find_class
from training.tasks import CoCaTask

OWN = '''
from dataclasses import dataclass

from training.params.flags import flag
from training.params.values import number
from training.tasks import ClipTask


@dataclass(frozen=True)
class Flags:
    """Mine."""

    sharpness: float = flag(0.5, "how sharp", type=number(0.0))


class Mine(ClipTask):
    name = "mine"
    Flags = Flags
'''


def find(word):
    return find_class(word, "--task", "training.tasks")


@pytest.fixture
def own(tmp_path):
    # A module is known by its file's name for as long as Python runs.
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(OWN)
    return path


def test_our_classes_are_found_by_name_and_listed_without_the_base():
    assert find("coca") is CoCaTask
    assert {"clip", "siglip", "coca", "distill"} <= set(class_names("training.tasks"))
    assert "base" not in class_names("training.tasks")


def test_a_class_of_ones_own_is_found_by_path_and_is_the_same_each_time(own):
    assert find(f"{own}:Mine").name == "mine"
    assert find(f"{own}:Mine") is find(f"{own}:Mine")


@pytest.mark.parametrize(
    "word, told",
    [
        ("cocoa", "Did you mean coca"),
        ("no/such.py:Mine", "no/such.py: there is no such file"),
        ("{own}:Yours", "has no 'Yours'.*It defines: .*Mine"),
    ],
)
def test_what_is_not_there_is_told_with_the_flag(own, word, told):
    with pytest.raises(ConfigError, match=told) as caught:
        find(word.format(own=own))
    assert "--task" in str(caught.value)


def test_a_file_of_ours_without_a_class_of_its_name_says_what_it_lacks(own, monkeypatch):
    monkeypatch.setattr(training.tasks, "__path__", [*training.tasks.__path__, str(own.parent)])
    with pytest.raises(ConfigError, match=f"--task {own.stem}: .*tasks.{own.stem} defines no class with name = "):
        find(own.stem)


def test_a_file_that_cannot_be_imported_is_told_with_its_error(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ConfigError, match=r"broken\.py cannot be run: ModuleNotFoundError"):
        find(f"{tmp_path}/broken.py:Mine")


def test_the_flags_of_a_recipe_are_on_the_command_line_and_in_the_settings_file(own, tmp_path):
    words = ["--task", f"{own}:Mine"]
    assert RunParams.from_namespace(parse_args([*words, "--sharpness", "2"])).own.sharpness == 2.0
    assert RunParams.from_namespace(parse_args(words)).own.sharpness == 0.5
    assert RunParams.from_namespace(parse_args([])).own is None
    (tmp_path / "settings.yaml").write_text(f"task: {own}:Mine\nsharpness: 3\n")
    assert RunParams.from_namespace(parse_args(["--config", str(tmp_path / "settings.yaml")])).own.sharpness == 3.0
    with pytest.raises(ConfigError, match="sharpness -1.*not a finite number of at least 0|sharpness: '-1'"):
        parse_args([*words, "--sharpness=-1"])
    with pytest.raises(ConfigError, match="unknown flag --sharpness"):
        parse_args(["--sharpness", "2"])


def test_a_path_means_the_same_in_every_folder(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    assert absolute(f"{own.name}:Mine") == f"{own}:Mine"
    assert absolute("clip") == "clip"
    assert parse_args(["--task", f"{own.name}:Mine"]).task == f"{own}:Mine"


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("sharpness: float = flag(", "lr: float = flag(", "hold --lr, which the trainer has itself; rename it"),
        ('flag(0.5, "how sharp", type=number(0.0))', "0.5", "hold 'sharpness', which is no flag: declare it"),
        ("@dataclass(frozen=True)", "", "are no dataclass"),
    ],
)
def test_flags_of_a_recipe_that_cannot_be_are_told(own, old, new, told):
    own.write_text(OWN.replace(old, new))
    with pytest.raises(ConfigError, match=rf"--task: the flags of the recipe, .*Flags, {told}"):
        parse_args(["--task", f"{own}:Mine"])
