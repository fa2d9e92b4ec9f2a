import logging

import pytest
import torch

import open_clip
from open_clip.errors import ConfigError
from tiny_models import tiny_clip, tiny_coca
from training.assembly.place import Place
from training.assembly.task import build_task, build_teacher, teacher_pixels
from training.device import Precision
from training.distributed import World
from training.params import RunParams, parse_args
from training.run_folder import RunFolder
from training.tasks import CoCaTask, SigLipTask

FP32 = Precision("fp32", "fp32")
STUDENT = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "input_dtype": None}


def params_of(*words):
    return RunParams.from_namespace(parse_args(["--model", "ViT-micro-8-32", *words]))


def build(model, *words, teacher=None):
    place = Place(None, torch.device("cpu"), World(0, 0, 1, 1), RunFolder("run", None))
    return build_task(params_of(*words), place, model, teacher, mean=(0.5,) * 3, std=(0.5,) * 3, precision=FP32)


def small_teacher(**settings):
    teacher = tiny_clip(**settings)
    teacher.visual.image_mean, teacher.visual.image_std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    return teacher


def test_a_captioner_is_known_by_its_class_whatever_it_is_called():
    task = build(tiny_coca(), "--coca-caption-loss-weight", "3", "--coca-contrastive-loss-weight", "0.5")
    assert isinstance(task, CoCaTask)
    assert (task.loss.caption_loss_weight, task.loss.clip_loss_weight) == (3.0, 0.5)


def test_siglip_takes_the_exchange_that_was_asked_for():
    task = build(tiny_clip(init_logit_bias=-10.0), "--siglip", "--loss-dist-impl", "gather")
    assert isinstance(task, SigLipTask)
    assert task.loss.dist_impl == "gather"


def test_recipes_that_do_not_go_together_are_refused():
    with pytest.raises(ConfigError, match="leave --siglip out"):
        build(tiny_coca(), "--siglip")
    with pytest.raises(ConfigError, match="can be a CoCa"):
        build(tiny_clip(), teacher=tiny_coca())
    with pytest.raises(ConfigError, match="both see the same batch"):
        build(tiny_clip(), teacher=small_teacher(vision={"image_size": 64}))


def test_the_teachers_pixels_are_the_students_unless_its_own_are_asked_for(caplog):
    teacher, images = small_teacher(), torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(STUDENT[name]).view(3, 1, 1) for name in ("mean", "std"))
    given = (images - mean) / std
    with caplog.at_level(logging.WARNING):
        plain = teacher_pixels(params_of(), teacher, STUDENT, FP32)
    assert "--distill-own-normalization" in caplog.text
    assert torch.equal(plain(given), given)
    own = teacher_pixels(params_of("--distill-own-normalization"), teacher, STUDENT, FP32)(given)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (teacher.visual.image_mean, teacher.visual.image_std))
    torch.testing.assert_close(own, (images - mean) / std)


def test_the_teacher_comes_with_its_weights(tmp_path):
    weights = open_clip.create_model("ViT-micro-8-32").state_dict()
    torch.save(weights, tmp_path / "teacher.pt")
    words = ("--distill-model", "ViT-micro-8-32", "--distill-pretrained", str(tmp_path / "teacher.pt"))
    teacher = build_teacher(params_of(*words), FP32, torch.device("cpu"))
    assert torch.equal(teacher.visual.proj, weights["visual.proj"])
    assert build_teacher(params_of(), FP32, torch.device("cpu")) is None
