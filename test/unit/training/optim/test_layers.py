import importlib.util

import pytest
import torch

import open_clip
from open_clip.errors import ConfigError, MissingDependency
from tiny_models import tiny_clip, tiny_coca
from training.device import select_device
from training.optim import build_optimizer, set_learning_rate
from training.optim.groups import layer_scales, parameter_groups
from training.params import OptimParams

OPTIM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "wd": 0.2}


def build(model, **settings):
    return build_optimizer(model, OptimParams(**{**OPTIM, **settings}), select_device("cpu"))


def test_each_layer_learns_slower_than_the_one_after_it():
    scales = layer_scales(tiny_clip(), 0.5, 0.1)
    # Two blocks: the projection, the last block with its norm, the first block, the embeddings.
    assert scales["visual.proj"] == 1.0
    assert scales["visual.transformer.resblocks.1.ln_1.weight"] == scales["visual.ln_post.bias"] == 0.5
    assert scales["visual.transformer.resblocks.0.ln_1.weight"] == 0.25
    assert scales["visual.conv1.weight"] == scales["visual.positional_embedding"] == 0.125
    assert scales["text_projection"] == 1.0
    assert scales["token_embedding.weight"] == pytest.approx(1e-3)
    assert "logit_scale" not in scales
    assert not any(name.startswith("visual.") for name in layer_scales(tiny_clip(), None, 0.1))


def test_towers_of_other_kinds_have_depths_too():
    resnet = layer_scales(open_clip.create_model("RN50", device="meta"), 0.5, None)
    assert resnet["visual.attnpool.c_proj.weight"] == 1.0
    assert resnet["visual.layer1.0.conv1.weight"] == 0.5**4
    assert resnet["visual.conv1.weight"] == 0.5**5
    coca = layer_scales(tiny_coca(), 0.5, 0.5)
    assert coca["text.token_embedding.weight"] == 0.5**3
    assert not any(name.startswith("text_decoder.") for name in coca)


def test_groups_carry_their_factor_and_the_schedule_keeps_it():
    model = tiny_clip()
    optimizer = build(model, image_layer_decay=0.5)
    set_learning_rate(optimizer, 2.0)
    rates = {(group["weight_decay"], group["lr_scale"]): group["lr"] for group in optimizer.param_groups}
    assert rates == {(wd, scale): 2.0 * scale for wd in (0.0, 0.2) for scale in (0.125, 0.25, 0.5, 1.0)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_without_decay_by_layer_the_groups_are_upstreams_two():
    optimizer = build(tiny_clip())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.2]
    assert not any("lr_scale" in group for group in optimizer.param_groups)


def test_patterns_leave_further_parameters_undecayed():
    model = tiny_clip()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain = parameter_groups(model.named_parameters(), 0.2)
    chosen = parameter_groups(model.named_parameters(), 0.2, exclude=["*positional_embedding", "token_*"])
    moved = {names[id(p)] for p in chosen[0]["params"]} - {names[id(p)] for p in plain[0]["params"]}
    assert moved == {"visual.positional_embedding", "positional_embedding", "token_embedding.weight"}


def undecayed_by(rule, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared, decayed = build(model, decay_rule=rule).param_groups
    assert (spared["weight_decay"], decayed["weight_decay"]) == (0.0, 0.2)
    assert len(spared["params"]) + len(decayed["params"]) == len(names)
    return {names[id(parameter)] for parameter in spared["params"]}


def test_each_rule_leaves_its_own_parameters_undecayed():
    model = tiny_clip(vision={"layers": (1, 1, 1, 1), "width": 8, "patch_size": None})
    model.register_module("LayerNorm", torch.nn.LayerNorm(4))
    openclip, cn, mae = (undecayed_by(rule, model) for rule in ("openclip", "cn", "mae"))
    # Told by name alone, norms under other names are decayed.
    assert openclip - cn == {"LayerNorm.weight"} | {
        name for name, _ in model.named_parameters() if name.endswith("downsample.1.weight")
    }
    assert len(openclip - cn) == 5
    assert cn < openclip
    assert mae - openclip == {"positional_embedding"}
    assert openclip <= mae
    assert undecayed_by("all", model) == set()
    vit = undecayed_by("mae", tiny_clip(custom_text=True))
    assert {"visual.class_embedding", "visual.positional_embedding", "text.positional_embedding"} < vit
    assert "text.token_embedding.weight" not in vit


def test_the_flag_wins_over_the_recipes_rule():
    settings = OptimParams(**OPTIM), select_device("cpu"), None
    assert build_optimizer(tiny_clip(), *settings, "all").param_groups[0]["params"] == []
    chosen = OptimParams(**OPTIM, decay_rule="openclip"), select_device("cpu"), None
    assert len(build_optimizer(tiny_clip(), *chosen, "all").param_groups[0]["params"]) > 2


def test_a_recipes_own_module_names_what_is_not_decayed_too():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.weight = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))

        def no_weight_decay(self):
            return {"table"}

    own = Own()
    groups = build_optimizer(tiny_clip(), OptimParams(**OPTIM), select_device("cpu"), own, "mae").param_groups
    (table,), (weight,) = groups[2]["params"], groups[3]["params"]
    assert (table is own.table, groups[2]["weight_decay"]) == (True, 0)
    assert (weight is own.weight, groups[3]["weight_decay"]) == (True, OPTIM["wd"])


@pytest.mark.parametrize("decay", [{}, {"image_layer_decay": 0.5}])
def test_no_group_holds_parameters_of_the_model_and_of_the_recipe(decay):
    """With --fsdp the ones are spread and the others whole, which no fused kernel updates together."""
    model, own = tiny_clip(), torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, OptimParams(**OPTIM, **decay), select_device("cpu"), own)
    of_model, of_own = ({id(one) for one in part.parameters()} for part in (model, own))
    groups = [{id(one) for one in group["params"]} for group in optimizer.param_groups]
    assert all(group <= of_model or group <= of_own for group in groups)
    assert set().union(*groups) == of_model | of_own


def test_a_group_without_parameters_steps():
    model = tiny_clip()
    optimizer = build(model, decay_rule="all")
    before = model.visual.ln_post.bias.detach().clone()
    model(torch.randn(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.long))[0][0, 0].backward()
    optimizer.step()
    assert not torch.equal(model.visual.ln_post.bias, before)


def test_frozen_towers_are_left_out_of_all_groups():
    model = tiny_clip()
    model.lock_image_tower()
    kept = {id(p) for group in build(model, image_layer_decay=0.5).param_groups for p in group["params"]}
    assert kept == {id(p) for p in model.parameters() if p.requires_grad}


def test_further_arguments_reach_adamw_and_wrong_ones_are_named():
    assert build(tiny_clip(), opt_kwargs={"amsgrad": True}).param_groups[0]["amsgrad"] is True
    with pytest.raises(ConfigError, match="--opt-kwargs"):
        build(tiny_clip(), opt_kwargs={"speed": 9})


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_a_timm_optimizer_without_timm_says_what_to_install():
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[timm\]'"):
        build(tiny_clip(), opt="timm/lamb")


def test_timms_optimizers_train_with_and_without_our_groups():
    pytest.importorskip("timm", reason="timm is not installed (extra: timm)")
    for extra in ({}, {"image_layer_decay": 0.5}, {"decay_rule": "all"}):
        model = tiny_clip()
        optimizer = build(model, opt="timm/lamb", beta1=None, beta2=None, eps=None, **extra)
        assert type(optimizer).__name__ == "Lamb"
        before = model.visual.proj.detach().clone()
        model(torch.randn(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.long))[0][0, 0].backward()
        optimizer.step()
        assert not torch.equal(model.visual.proj, before)
    with pytest.raises(ConfigError, match="Did you mean"):
        build(tiny_clip(), opt="timm/lamp")
