"""What env_npu.sh exports, with and without CANN."""

import os
import subprocess
from pathlib import Path

import pytest

from recording_python import REPO_ROOT, make_wrapper

SHOW = 'echo "${INF_NAN_MODE_ENABLE:-unset} ${ASCEND_GLOBAL_LOG_LEVEL:-unset} ${CANN_LOADED:-unset}"'


def _source(root: Path, info: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASCEND", "INF_NAN"))}
    environment |= {"ASCEND_ROOT": str(root), "ASCEND_INSTALL_INFO": str(info or root / "no.info"), **extra}
    script = f'set -euo pipefail; source "{REPO_ROOT}/test/env_npu.sh"; {SHOW}; set -o | grep -E "errexit|nounset"'
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
    assert done.stdout.splitlines() == [f"1 3 {layout}", "errexit        \ton", "nounset        \ton"]


def test_the_install_file_of_the_system_comes_first(tmp_path: Path) -> None:
    _install(tmp_path / "opt cann", "nnae")
    info = tmp_path / "ascend_cann_install.info"
    info.write_text(f"Version=8.0\nInstall_Path={tmp_path}/opt cann\n", encoding="utf-8")

    assert _source(tmp_path / "none", info).stdout.startswith("1 3 nnae")


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    _install(tmp_path, "cann")

    done = _source(tmp_path, ASCEND_HOME_PATH="/mine", INF_NAN_MODE_ENABLE="0")

    assert done.stdout.splitlines()[0] == "0 3 unset"


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
