import json
import logging

import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.families.image_classifier.model import ImageClassifier
from tiny_models import tiny_clip, tiny_coca, tiny_coca_config, tiny_config
from training.assembly.task import build_task, choose_recipe
from training.device import Precision
from training.distributed import World
from training.params import RunParams, parse_args
from training.tasks import ClipTask, CoCaTask, Setup, SigLipTask

FP32 = Precision("fp32", "fp32")


def params_of(*words):
    return RunParams.from_namespace(parse_args(["--model", "ViT-micro-8-32", *words]))


def setup_of(model, *words):
    world = World(0, 0, 1, 1)
    student = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    return Setup(model, params_of(*words), world, torch.device("cpu"), FP32, *student)


def build(model, *words):
    return build_task(setup_of(model, *words))


def test_a_captioner_is_known_by_its_class_whatever_it_is_called():
    task = build(tiny_coca(), "--coca-caption-loss-weight", "3", "--coca-contrastive-loss-weight", "0.5")
    assert isinstance(task, CoCaTask)
    assert (task.loss.caption_loss_weight, task.loss.clip_loss_weight) == (3.0, 0.5)


def test_siglip_takes_the_exchange_that_was_asked_for():
    task = build(tiny_clip(init_logit_bias=-10.0), "--siglip", "--loss-dist-impl", "gather")
    assert isinstance(task, SigLipTask)
    assert task.loss.dist_impl == "gather"


@pytest.fixture
def teacher_of(tmp_path):
    """Write a model and give the flags that make it a teacher."""

    def write(model, config):
        folder = tmp_path / "teacher"
        folder.mkdir()
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
        preprocess = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
        described = {"model_cfg": config, "preprocess_cfg": preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        weights = folder / "open_clip_pytorch_model.bin"
        return ("--distill-model", f"local-dir:{folder}", "--distill-pretrained", str(weights))

    return write


def test_recipes_that_do_not_go_together_are_refused(teacher_of):
    with pytest.raises(
        ConfigError, match="--siglip cannot train ViT-micro-8-32: it writes captions.*leave --siglip out"
    ):
        build(tiny_coca(), "--siglip")
    with pytest.raises(ConfigError, match="--siglip cannot train.*no logit bias"):
        build(tiny_clip(), "--siglip")
    with pytest.raises(ConfigError, match="--task coca cannot train.*writes no captions"):
        build(tiny_clip(), "--task", "coca")
    with pytest.raises(ConfigError, match="--task clip cannot train.*--task coca trains"):
        build(tiny_coca(), "--task", "clip")
    with pytest.raises(ConfigError, match="the recipe clip cannot train.*two encoders.*with --task: .*classify"):
        build(ImageClassifier.on_tower(tiny_clip().visual, 64, ("a", "b")))
    with pytest.raises(ConfigError, match="--task distill needs --distill-model"):
        build(tiny_clip(), "--task", "distill")


def test_a_teacher_that_is_a_captioner_is_refused(teacher_of):
    with pytest.raises(ConfigError, match="--distill-model .*it writes captions"):
        build(tiny_clip(), *teacher_of(tiny_coca(), tiny_coca_config()))


def test_a_teacher_that_sees_other_images_is_refused(teacher_of):
    config = tiny_config({"image_size": 64})
    with pytest.raises(ConfigError, match="both see the same batch"):
        build(tiny_clip(), *teacher_of(tiny_clip(vision={"image_size": 64}), config))


def test_the_teacher_comes_with_its_weights_and_sees_the_students_pixels_or_its_own(teacher_of, caplog):
    given = torch.rand(2, 3, 32, 32)
    words = teacher_of(tiny_clip(), tiny_config())
    with caplog.at_level(logging.WARNING):
        plain = build(tiny_clip(), *words)
    assert "--distill-own-normalization" in caplog.text
    assert torch.equal(plain._to_teacher(given), given)
    saved = torch.load(words[3])
    assert torch.equal(plain.teacher.visual.proj, saved["visual.proj"])
    own = build(tiny_clip(), *words, "--distill-own-normalization")._to_teacher(given)
    setup = setup_of(None)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (setup.mean, setup.std))
    to_mean, to_std = (torch.tensor(value).view(3, 1, 1) for value in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    torch.testing.assert_close(own, (given * std + mean - to_mean) / to_std)


@pytest.mark.parametrize(
    "words, name",
    [((), "clip"), (("--siglip",), "siglip"), (("--task", "siglip"), "siglip"), (("--task", "clip"), "clip")],
)
def test_a_recipe_is_found_by_name_or_by_upstreams_flags(words, name):
    assert choose_recipe(params_of(*words), writes_captions=False).name == name


def test_a_captioner_asks_for_its_recipe_unless_a_flag_names_one():
    assert choose_recipe(params_of(), writes_captions=True) is CoCaTask
    assert choose_recipe(params_of("--task", "clip"), writes_captions=True) is ClipTask


def test_one_pair_a_step_teaches_only_recipes_that_learn_from_one():
    one = ("--train-data", "pairs.csv", "--batch-size", "1")
    with pytest.raises(ConfigError, match="single pair"):
        ClipTask.check(params_of(*one), World(0, 0, 1, 1))
    ClipTask.check(params_of(*one, "--accum-freq", "2"), World(0, 0, 1, 1))
    SigLipTask.check(params_of(*one), World(0, 0, 1, 1))
    CoCaTask.check(params_of(*one), World(0, 0, 1, 1))
    with pytest.raises(ConfigError, match="single pair"):
        CoCaTask.check(params_of(*one, "--coca-caption-loss-weight", "0"), World(0, 0, 1, 1))
