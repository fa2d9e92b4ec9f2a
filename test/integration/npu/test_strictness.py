"""The simulated npu refuses what a card refuses: each test does what code that forgets the card would do."""

import re

import pytest

from npu_session import REPO, ask_script, simulator_env

MUTANTS = REPO / "test" / "support" / "npu_mutants.py"
INIT_ERROR = (
    "SetPrecisionMode:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:155 NPU function error: "
    "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, precision_mode), error code is 500001"
)
pytestmark = pytest.mark.npu


def refusals(name, cwd=REPO, **settings):
    """Run one function of npu_mutants.py and return what it found: the error by the name of what was tried."""
    return ask_script(MUTANTS, name, simulator_env(devices=2, **settings), cwd)


def test_a_device_that_cannot_start_is_counted_and_fails_at_its_first_use():
    found = refusals("first_uses", NPUSIM_INIT_ERROR=INIT_ERROR)
    assert found.pop("is_available") is True
    assert found.pop("device_count") == 2
    assert set(found.values()) == {f"RuntimeError: {INIT_ERROR}"}


def test_a_chip_without_bfloat16_has_no_fused_optimizer():
    found = refusals("chip_without_bfloat16", NPUSIM_BF16="0", NPUSIM_NAME="Ascend910A")
    assert found.pop("plain") is None
    assert all("aclnnApplyAdamWV2" in error for error in found.values()), found


def test_fused_attention_saves_its_mask_takes_one_dtype_and_is_never_autocast():
    found = refusals("attention")
    assert "Inference tensors cannot be saved for backward" in found["mask of inference"]
    assert "modified by an inplace operation" in found["changed mask"]
    assert all("161002" in found[name] for name in ("mixed", "integers", "mixed by autocast")), found
    assert "keep_prob value must be in range of (0, 1]" in found["keep nothing"]
    assert found["polarity"] is False
    assert found["autocast"] == "torch.float32"


def test_towers_train_with_the_fused_kernel_after_an_answer_in_inference_mode():
    assert refusals("attention_after_inference") == {"refused": 0, "error": None}


def test_the_scaler_waits_and_speaks_as_torch_npu_s_and_looks_at_nothing_with_a_fixed_scale():
    found = refusals("scaler")
    # For the gradients' dtype, for the step and for the update.
    assert found["dynamic"] == {"weights": [0.5, 0.75], "waits": 3, "said": "", "scale": 4.0}
    broken = found["dynamic, broken"]
    assert broken["weights"] == [1.0, 1.0]
    assert broken["said"] == "Gradient overflow. Skipping step\nLoss scaler reducing loss scale to 2.0\n"
    assert broken["scale"] == 2.0
    assert found["static"] == {"weights": [0.5, 0.75], "waits": 0, "said": "", "scale": 4.0}
    assert found["static, broken"] == {"weights": [float("-inf"), 0.75], "waits": 0, "said": "", "scale": 4.0}
    assert "unexpected keyword argument 'grad_scaler'" in found["fused"]
    assert found["found_inf"] == pytest.approx([0.9] * 4), "the fused kernel looks at found_inf"


def test_using_the_result_of_a_collective_without_waiting_is_a_race():
    found = refusals("reads_without_waiting", NPUSIM_RACES="error")
    assert "did not wait" in found.pop("before")
    assert "did not wait" in found.pop("done, not waited for")
    assert set(found.values()) == {None}


def test_the_result_of_a_collective_is_there_after_a_wait_or_a_synchronisation_only():
    found = refusals("late_results", NPUSIM_HCCL_MS="500")
    assert found == {"before": [0, 0], "after": [1, 1], "synchronised": [3, 3]}


def test_hccl_refuses_what_the_library_refuses_and_records_its_calls():
    found = refusals("collectives", NPUSIM_FLOAT64="allow", TORCH_HCCL_TRACE_BUFFER_SIZE="20")
    for name in ("BAND", "BOR", "BXOR"):
        assert f"Cannot use ReduceOp.{name} with HCCL" in found[name]
    for name in ("float64", "bool"):
        assert "Unsupported data type" in found[name]
    assert "Tensors must be contiguous" in found["strided"]
    assert "hccl" in found["gather"]
    assert found["float64 moved"] is found["bool moved"] is found["complex"] is found["sound"] is None
    assert found["trace"] == ["hccl:allreduce", "completed", [[2]], 0]


def test_autocast_casts_what_torch_npu_casts():
    found = refusals("autocast")
    assert "unsafe to autocast" in found.pop("bce")
    float16 = {name for name, dtype in found.items() if dtype == "float16"}
    assert float16 == {"matmul", "attention", "gelu"}
    assert {dtype for name, dtype in found.items() if name not in float16} == {"float32"}


def test_double_precision_is_an_error_unless_allowed():
    found = refusals("float64")
    assert all("float64" in error for error in found.values()), found
    assert set(refusals("float64", NPUSIM_FLOAT64="allow").values()) == {None}


def test_torch_s_profiler_sees_no_device_and_torch_npu_s_leaves_its_folder(tmp_path):
    found = refusals("profiled", cwd=tmp_path)
    assert found["torch"] == ["CPU"]
    assert re.fullmatch(r"rank-0_\d+_\d{17}_ascend_pt", found["folder"])
    output = "ASCEND_PROFILER_OUTPUT"
    files = {f"{output}/{name}" for name in ("trace_view.json", "operator_details.csv", "kernel_details.csv")}
    assert files | {"profiler_info.json", "profiler_metadata.json", "FRAMEWORK", output} == set(found["files"])
    assert found["products"] == 2, "two steps were to be recorded"
    assert "ProfilerActivity" in found["activities"]
