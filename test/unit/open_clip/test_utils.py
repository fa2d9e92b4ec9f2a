import pytest
import torch
from torch import nn

from open_clip import utils
from open_clip.errors import ConfigError


def test_batch_norms_of_images_are_frozen_all_or_by_name():
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(3.0)
    tower = nn.Sequential(norm, nn.Sequential(nn.SyncBatchNorm(2), nn.BatchNorm1d(2)))
    assert utils.freeze_batch_norm_2d(tower, {"1.0"}) is tower
    assert isinstance(tower[0], nn.BatchNorm2d)
    assert isinstance(tower[1][0], utils.FrozenBatchNorm2d)
    utils.freeze_batch_norm_2d(tower)
    assert isinstance(tower[0], utils.FrozenBatchNorm2d)
    assert tower[0].running_mean.tolist() == [3.0, 3.0]
    assert isinstance(tower[1][1], nn.BatchNorm1d)


def test_a_frozen_norm_computes_what_the_norm_computes_in_eval_mode():
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.uniform_()
    norm.running_var.uniform_(0.5, 2.0)
    nn.init.uniform_(norm.weight)
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(utils.freeze_batch_norm_2d(norm)(images), norm(images))


def test_tuples_are_made_of_single_values_only():
    assert utils.to_1tuple(3) == (3,)
    assert utils.to_2tuple(3) == (3, 3)
    assert utils.to_3tuple(None) == (None, None, None)
    assert utils.to_4tuple([1, 2]) == [1, 2]
    assert utils.to_ntuple(5, 0) == (0,) * 5


def test_indices_are_the_last_ones_or_those_named():
    assert utils.feature_take_indices(4) == ([0, 1, 2, 3], 3)
    assert utils.feature_take_indices(4, 2) == ([2, 3], 3)
    assert utils.feature_take_indices(4, [0, -2], as_set=True) == ({0, 2}, 2)
    with pytest.raises(ConfigError):
        utils.feature_take_indices(4, [4])


def test_linear_layers_are_replaced_by_name_with_their_weights():
    class Other(nn.Linear):
        pass

    model = nn.ModuleDict({"c_fc": nn.Linear(2, 3), "other": nn.Linear(2, 3), "inner": nn.Sequential()})
    model["inner"].add_module("c_proj", nn.Linear(3, 2, bias=False))
    weight = model["c_fc"].weight.detach().clone()
    utils.replace_linear(model, Other)
    assert isinstance(model["c_fc"], Other)
    assert torch.equal(model["c_fc"].weight, weight)
    assert type(model["other"]) is nn.Linear
    assert isinstance(model["inner"].c_proj, Other)
    assert model["inner"].c_proj.bias is None


def test_layers_that_prepare_for_inference_are_told_to():
    class Prepared(nn.Linear):
        def prepare_for_eval(self):
            self.weight = nn.Parameter(self.weight.to(torch.int8), requires_grad=False)

    model = nn.Sequential(Prepared(2, 2), nn.Linear(2, 2))
    utils.convert_int8_model_to_inference_mode(model)
    assert model[0].weight.dtype == torch.int8
    assert model[0].int8_original_dtype == torch.float32
