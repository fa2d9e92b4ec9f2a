import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import open_clip

ROOT = Path(__file__).resolve().parents[2]
# Optional packages that CI does not install, so nothing pins them.
UNPINNED = {"timm", "torchvision", "transformers", "sentencepiece", "s3fs"} | {"attrs", "decorator", "psutil", "scipy"}
# Modules whose package has another name, and packages that no index has or that come with others.
PACKAGE_OF = {"PIL": "pillow", "yaml": "pyyaml", "google": "protobuf"}
UNDECLARED = {"apex", "nltk"}


def _names(lines: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z][\w.-]*", line.strip()) for line in lines)
    return {match[0].lower().replace("_", "-") for match in found if match}


def _pinned() -> set[str]:
    lines = (ROOT / "constraints" / "ci.txt").read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    return _names(lines)


def test_the_version_is_upstreams_level_with_a_local_label() -> None:
    assert re.fullmatch(r"3\.3\.0\+portable\.\d+", open_clip.__version__)


def test_every_core_requirement_is_pinned_for_ci() -> None:
    assert _names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()) <= _pinned()


def _lists() -> dict[str, list[str]]:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    extras = assigned["EXTRAS"]
    assert isinstance(extras, ast.Dict)
    named = {
        str(key.value): value
        for key, value in zip(extras.keys, extras.values, strict=True)
        if isinstance(key, ast.Constant)
    }
    lists = {name: part.elts for name, part in {**assigned, **named}.items() if isinstance(part, ast.List)}
    return {
        name: [str(item.value) for item in items if isinstance(item, ast.Constant)] for name, items in lists.items()
    }


def _extras() -> set[str]:
    return _names([item for part in _lists().values() for item in part])


def test_every_package_of_the_extras_is_pinned_or_known_as_optional() -> None:
    wanted = _extras()

    assert len(wanted) > 15
    assert wanted - _pinned() == UNPINNED


def test_the_floors_that_are_stated_are_those_that_the_oldest_pair_is_tested_with() -> None:
    lines = (ROOT / "constraints" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        pin[1].lower().replace("_", "-"): pin[2] for pin in map(re.compile(r"([\w.-]+)==([\d.]+)").match, lines) if pin
    }
    lists = _lists()
    core = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stated = re.findall(
        r"^([\w-]+)>=([\d.]+)", "\n".join([*core, *lists["TEST"], *lists["FAST"], *lists["SHARDS"]]), re.M
    )

    assert len(stated) > 15
    floors = {name.lower().replace("_", "-"): floor for name, floor in stated}
    # A floor for safety's sake, tried by hand; the tests need no older torch than Ascend's sites mostly have.
    assert floors.pop("torch") == "2.6"
    assert pinned["torch"].startswith("2.9.")
    assert {name for name, floor in floors.items() if f"{pinned.get(name)}.".startswith(f"{floor}.")} == set(floors)


def _imported() -> set[str]:
    modules: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return modules - set(sys.stdlib_module_names) - {"open_clip", "training", "open_clip_train"}


def test_everything_that_is_imported_is_declared() -> None:
    core = _names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    declared = core | _extras()
    imported = {PACKAGE_OF.get(name, name).lower().replace("_", "-") for name in _imported()}

    assert len(imported) > 10
    assert imported - declared <= UNDECLARED


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True, timeout=300)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_a_wheel_holds_types_configurations_and_vocabulary(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {f"{package}/py.typed" for package in ("open_clip", "training", "open_clip_train")} <= set(names)
    configs = [name for name in names if name.startswith("open_clip/model_configs/") and name.endswith(".json")]
    assert len(configs) == len(list((ROOT / "src/open_clip/model_configs").glob("*.json"))) > 100
    assert any(name.endswith("bpe_simple_vocab_16e6.txt.gz") for name in names)


def test_a_wheel_offers_the_extras_that_have_code(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    offered = set(message_from_bytes(wheel.read(metadata)).get_all("Provides-Extra") or [])
    assert offered == {"fast", "timm", "hf", "shards", "remote", "npu", "logging", "test", "dev"}


def _run(arguments: list[str], *paths: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-B", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


class TestTheOtherPackageOfThisName:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        (tmp_path / "open_clip").mkdir()
        (tmp_path / "open_clip" / "__init__.py").write_text("from .version import __version__\n")
        (tmp_path / "open_clip" / "version.py").write_text("__version__ = '3.3.0'\n")
        return tmp_path

    @pytest.mark.parametrize("module", ["training.main", "training.doctor", "training.report"])
    def test_a_command_says_which_is_in_use_and_what_to_do(self, other: Path, module: str) -> None:
        done = _run(["-m", module, "--help"], other, ROOT / "src")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert f"3.3.0 in {other / 'open_clip'}" in done.stderr
        assert f"put {ROOT / 'src'} first on PYTHONPATH" in done.stderr

    def test_a_program_gets_an_import_error(self, other: Path) -> None:
        done = _run(["-c", "import training"], other, ROOT / "src")
        assert done.returncode == 1
        assert "ImportError: `import open_clip` finds another project of that name" in done.stderr

    def test_installed_over_this_one_it_is_seen_too(self, other: Path) -> None:
        shutil.copytree(ROOT / "src" / "training", other / "training", ignore=shutil.ignore_patterns("__pycache__"))
        assert _run(["-m", "training.doctor"], other).returncode == 2

    def test_ours_passes_and_the_doctor_names_it(self) -> None:
        done = _run(["-m", "training.doctor"], ROOT / "src")
        assert f"library      open_clip {open_clip.__version__} ({ROOT / 'src' / 'open_clip'})" in done.stdout


def test_the_oldest_python_is_the_same_wherever_it_is_stated() -> None:
    stated = {
        "setup.py": r'python_requires=">=3\.(\d+)"',
        "pyproject.toml": r'python_version = "3\.(\d+)"',
        "tools/setup_venv.sh": r'oldest="3, (\d+)"',
    }
    found = {name: re.search(pattern, (ROOT / name).read_text(encoding="utf-8")) for name, pattern in stated.items()}

    assert {match[1] for match in found.values() if match} == {"10"}
    assert all(found.values())


def test_nothing_advises_to_install_the_other_package_of_this_name() -> None:
    # The index has another project under the name of this distribution.
    named = re.compile(r"pip install [^\n]*open_clip_torch")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py"), *ROOT.glob("tools/*")]
    assert len(pages) > 300
    assert not [page.name for page in pages if page.is_file() and named.search(page.read_text(encoding="utf-8"))]
