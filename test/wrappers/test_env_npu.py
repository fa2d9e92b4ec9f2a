"""What env_npu.sh exports, with and without CANN."""

import os
import subprocess
from pathlib import Path

import pytest

from recording_python import REPO_ROOT, make_wrapper

SHOW = 'echo "${INF_NAN_MODE_ENABLE:-unset} ${ASCEND_GLOBAL_LOG_LEVEL:-unset} ${CANN_LOADED:-unset}"'
AFFINITY = 'echo "cores ${CPU_AFFINITY_CONF:-unset}"'


def _source(root: Path, info: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    prefixes = ("ASCEND", "INF_NAN", "CPU_AFFINITY")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    environment |= {"ASCEND_ROOT": str(root), "ASCEND_INSTALL_INFO": str(info or root / "no.info"), "HOME": "/nobody"}
    source = f'source "{REPO_ROOT}/test/env_npu.sh"'
    script = f'set -euo pipefail; {source}; {SHOW}; set -o | grep -E "errexit|nounset"; {AFFINITY}'
    environment |= extra
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30)


def _install(root: Path, layout: str) -> None:
    folder = root / layout
    folder.mkdir(parents=True)
    # CANN's own script reads unset variables and runs commands that fail.
    text = 'false\nexport LIBRARY="$UNSET_BEFORE:x"\nexport CANN_LOADED=' + layout + "\n"
    (folder / "set_env.sh").write_text(text, encoding="utf-8")


def test_without_cann_nothing_is_exported_and_nothing_fails(tmp_path: Path) -> None:
    done = _source(tmp_path / "none")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "unset unset unset"


@pytest.mark.parametrize("layout", ["cann", "ascend-toolkit", "nnae"])
def test_each_layout_of_cann_is_found(layout: str, tmp_path: Path) -> None:
    _install(tmp_path, layout)

    done = _source(tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [f"1 3 {layout}", "errexit        \ton", "nounset        \ton"]


def test_of_two_installations_the_newer_layout_is_loaded(tmp_path: Path) -> None:
    _install(tmp_path, "ascend-toolkit")
    _install(tmp_path, "cann")

    assert _source(tmp_path).stdout.startswith("1 3 cann")


def test_a_user_s_own_cann_is_found(tmp_path: Path) -> None:
    _install(tmp_path / "home" / "Ascend", "cann")

    assert _source(tmp_path / "none", HOME=str(tmp_path / "home")).stdout.startswith("1 3 cann")


def test_a_process_shares_cores_instead_of_pinning_its_threads_to_one(tmp_path: Path) -> None:
    _install(tmp_path, "cann")

    assert _source(tmp_path).stdout.splitlines()[-1] == "cores 1"
    assert _source(tmp_path, CPU_AFFINITY_CONF="0").stdout.splitlines()[-1] == "cores 0"


def test_the_install_file_of_the_system_comes_first(tmp_path: Path) -> None:
    _install(tmp_path / "opt cann", "nnae")
    info = tmp_path / "ascend_cann_install.info"
    info.write_text(f"Version=8.0\nInstall_Path={tmp_path}/opt cann\n", encoding="utf-8")

    assert _source(tmp_path / "none", info).stdout.startswith("1 3 nnae")


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    _install(tmp_path, "cann")

    done = _source(tmp_path, ASCEND_HOME_PATH=str(tmp_path), INF_NAN_MODE_ENABLE="0")

    assert done.stdout.splitlines()[0] == "0 3 unset"


def test_a_path_to_a_cann_that_has_moved_is_set_anew(tmp_path: Path) -> None:
    _install(tmp_path, "cann")

    assert _source(tmp_path, ASCEND_HOME_PATH=str(tmp_path / "ascend-toolkit/latest")).stdout.startswith("1 3 cann")


@pytest.mark.parametrize("device, running, expected", [("auto", "", "1"), ("auto", "true", None), ("cpu", "", None)])
def test_a_wrapper_loads_it_for_an_npu_only(device: str, running: str, expected: str | None, tmp_path: Path) -> None:
    wrapper = make_wrapper("train_full_1p.sh", tmp_path)
    _install(tmp_path / "root", "cann")
    environment = wrapper.environment(
        ASCEND_ROOT=str(tmp_path / "root"), ASCEND_INSTALL_INFO=str(tmp_path / "no.info"), etp_running_flag=running
    )
    command = [word for word in wrapper.command() if not word.startswith("--device=")] + [f"--device={device}"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert wrapper.recorded()["env"]["INF_NAN_MODE_ENABLE"] == expected  # type: ignore[index]
