import ast
import re
from pathlib import Path

import open_clip

ROOT = Path(__file__).resolve().parents[2]
# Optional packages that CI does not install, so nothing pins them.
UNPINNED = {"timm", "torchvision", "transformers", "sentencepiece", "lmdb", "s3fs"}


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


def test_every_package_of_the_extras_is_pinned_or_known_as_optional() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    assigned = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    lists = [assigned["FAST"], assigned["SHARDS"], assigned["TEST"], assigned["LINT"], *assigned["EXTRAS"].values]  # type: ignore[attr-defined]
    items = [item for part in lists if isinstance(part, ast.List) for item in part.elts]
    wanted = _names([item.value for item in items if isinstance(item, ast.Constant)])

    assert len(wanted) > 15
    assert wanted - _pinned() == UNPINNED


def test_the_oldest_python_is_the_same_wherever_it_is_stated() -> None:
    stated = {
        "setup.py": r'python_requires=">=3\.(\d+)"',
        "pyproject.toml": r'python_version = "3\.(\d+)"',
        "tools/setup_venv.sh": r'oldest="3, (\d+)"',
    }
    found = {name: re.search(pattern, (ROOT / name).read_text(encoding="utf-8")) for name, pattern in stated.items()}

    assert {match[1] for match in found.values() if match} == {"11"}
    assert all(found.values())


def test_nothing_advises_to_install_the_other_package_of_this_name() -> None:
    # The index has another project under the name of this distribution.
    named = re.compile(r"pip install [^\n]*open_clip_torch")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py"), *ROOT.glob("tools/*")]
    assert len(pages) > 300
    assert not [page.name for page in pages if page.is_file() and named.search(page.read_text(encoding="utf-8"))]
