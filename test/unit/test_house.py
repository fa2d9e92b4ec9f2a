"""Rules of the house that a reader would otherwise have to watch for, as ARCHITECTURE.md and CONTRIBUTING.md say."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 80
# What a file may import at its top; the rest is optional and imported where it is used.
CORE_PACKAGES = {"torch", "numpy", "PIL", "regex", "ftfy", "safetensors", "huggingface_hub", "yaml", "tqdm"}
OUR_PACKAGES = {"open_clip", "training", "open_clip_train"}
HARDWARE_NAME = re.compile(r"torch_npu|torch\.(cuda|npu)\b|\.(cuda|npu)\(|\b(nccl|hccl)\b")
HARDWARE_STRINGS = {"cuda", "npu", "nccl", "hccl", "torch_npu"}


def named(path):
    return str(path.relative_to(ROOT))


def in_device_room(path):
    return path.is_relative_to(ROOT / "src/training/device")


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.fixture(params=SOURCES, ids=named)
def source(request):
    return request.param


def test_files_and_functions_stay_readable(source):
    text = source.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    long = [f.name for f in functions(ast.parse(text)) if f.end_lineno - f.lineno + 1 > MAX_FUNCTION_LINES]
    assert not long


def test_everything_public_says_what_it_is_for(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "module without a docstring"
    silent = []
    for owner in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")):
        for node in owner.body:
            is_named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_named and not ast.get_docstring(node) and not is_overload(node):
                silent.append(node.name)
    assert not silent


def is_overload(node):
    return any(isinstance(item, ast.Name) and item.id == "overload" for item in node.decorator_list)


def code_without_comments_and_docstrings(text):
    """Give all string constants that are not docstrings, and the code with strings and comments blanked."""
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    kept = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.STRING, tokenize.COMMENT):
            kept.append(token.string)
    return strings, " ".join(kept).replace(" . ", ".").replace(" (", "(")


def test_only_the_device_room_knows_hardware_by_name(source):
    if in_device_room(source):
        pytest.skip("this is the device room")
    strings, code = code_without_comments_and_docstrings(source.read_text(encoding="utf-8"))
    assert not HARDWARE_NAME.search(code)
    assert not HARDWARE_STRINGS & {string.partition(":")[0] for string in strings}


def test_optional_packages_are_imported_where_they_are_used(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    allowed = CORE_PACKAGES | OUR_PACKAGES
    import sys

    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top in allowed or top in sys.stdlib_module_names, name


def test_nothing_imports_torchvision(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.startswith("torchvision") for name in names)


def test_nothing_prints(source):
    if source.name == "__main__.py" or source == ROOT / "src/training/doctor/terminal.py":
        pytest.skip("a program that a person reads")
    calls = [node for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_the_library_never_imports_the_trainer(source):
    if not source.is_relative_to(ROOT / "src/open_clip"):
        pytest.skip("not the library")
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.partition(".")[0] == "training" for name in names)


def test_every_flag_stands_in_the_flag_pages_of_both_languages():
    from training.params import make_parser

    flags = {option for action in make_parser()._actions for option in action.option_strings if option.startswith("--")}
    for page in ("docs/flags.md", "docs/flags.zh.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        missing = sorted(flag for flag in flags - {"--help"} if f"`{flag}`" not in text)
        assert not missing, page
