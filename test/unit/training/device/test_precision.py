import contextlib
import re
from pathlib import Path

import pytest
import torch

from open_clip.errors import ConfigError, DeviceError
from open_clip.modeling.cast import PRECISIONS as LIBRARY_PRECISIONS
from training.device import resolve_precision
from training.device.base import DeviceInfo
from training.device.cpu import CpuDevice
from training.device.cuda import CudaDevice
from training.params import make_parser
from training.params.precisions import PRECISIONS
from training.params.rules import check_rules

ROOT = Path(__file__).resolve().parents[4]
SCALED = {"amp", "apex_o1", "apex_o2", "npu_amp"}
SPREAD = {"amp", "amp_bf16", "amp_bfloat16", "pure_bf16", "fp32"}


class OldDevice(CudaDevice):
    """A card without bfloat16, of which only the name is ever asked."""

    def supports_bf16(self):
        return False

    def info(self, index=None):
        return DeviceInfo(self.kind, "an old card", 1, None)


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_name_resolves_on_the_cpu(name):
    precision = resolve_precision(name, CpuDevice())
    assert precision.requested == name
    assert set(precision.describe()) >= {"requested", "effective", "note"}


def test_amp_on_the_cpu_is_fp32_and_says_so():
    precision = resolve_precision("amp", CpuDevice())
    assert (precision.effective, precision.autocast_dtype, precision.scaled) == ("fp32", None, False)
    assert "fp32" in precision.note


def test_amp_on_a_device_is_fp16_autocast_with_a_scaler():
    precision = resolve_precision("amp", OldDevice())
    assert (precision.model, precision.autocast_dtype, precision.scaled) == ("fp32", torch.float16, True)
    assert precision.note is None


@pytest.mark.parametrize("name", ["amp_bf16", "amp_bfloat16", "bf16", "pure_bf16"])
def test_bfloat16_where_there_is_none_is_refused_with_what_works(name):
    with pytest.raises(DeviceError, match="an old card has no bfloat16.*--precision amp"):
        resolve_precision(name, OldDevice())


@pytest.mark.parametrize("name", ["fp16", "bf16", "pure_fp16", "pure_bf16"])
def test_converted_weights_take_images_of_their_dtype(name):
    precision = resolve_precision(name, CpuDevice())
    assert precision.model == name
    assert precision.input_dtype is (torch.bfloat16 if "bf16" in name else torch.float16)
    assert precision.autocast_dtype is None


def test_npu_amp_is_apex_o2():
    precision = resolve_precision("npu_amp", CpuDevice())
    assert (precision.effective, precision.apex_level, precision.model) == ("apex_o2", "O2", "fp32")


@pytest.mark.parametrize("name, effective", [("npu_amp", "pure_fp16"), ("apex_o1", "amp"), ("fp16", "fp16")])
def test_a_run_that_only_evaluates_needs_no_apex(name, effective):
    precision = resolve_precision(name, OldDevice(), trains=False)
    assert (precision.requested, precision.effective, precision.apex_level) == (name, effective, None)


def test_an_unknown_precision_is_met_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean"):
        resolve_precision("amp_b16", CpuDevice())


@pytest.mark.parametrize("page", ["devices.md", "devices.zh.md"])
def test_the_pages_of_both_languages_list_every_precision(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed >= PRECISIONS.keys()


def test_every_precision_gives_the_library_one_of_its_own():
    assert {row.model for row in PRECISIONS.values()} == set(LIBRARY_PRECISIONS) - {"amp", "amp_bf16", "amp_bfloat16"}


def test_a_loss_scale_and_spread_weights_go_with_those_that_the_table_says(caplog):
    def is_taken(name, *words):
        caplog.clear()
        args = make_parser().parse_args(["--train-data", "x.csv", "--lr", "0.1", "--precision", name, *words])
        with contextlib.suppress(ConfigError):
            check_rules(args)
            return f"no effect with --precision {name}" not in caplog.text
        return False

    assert {name for name in PRECISIONS if is_taken(name, "--loss-scale", "8")} == SCALED
    assert {name for name in PRECISIONS if is_taken(name, "--fsdp")} == SPREAD
