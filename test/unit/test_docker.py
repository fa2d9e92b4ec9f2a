"""The image file holds what no linter knows: its files are there, its extras exist, its versions belong together."""

import json
import re
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest

from training.device.pairs import judge_versions

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
READMES = [ROOT / "docker" / name for name in ("README.md", "README.zh.md")]


def steps():
    """Give the instructions as (word, rest), continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines()]


def texts(word):
    return [rest for name, rest in steps() if name == word]


def defaults():
    return dict(rest.split("=", 1) for rest in texts("ARG"))


def copied():
    return [pattern for rest in texts("COPY") for pattern in rest.split()[:-1]]


def is_sent(path):
    """Answer as a builder does whether a file of the tree reaches the build: the last rule that fits wins."""
    parts = path.split("/")
    beginnings = ["/".join(parts[: number + 1]) for number in range(len(parts))]
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.removeprefix("!")
        if not rule or line.startswith("#"):
            continue
        deep = rule.startswith("**/")
        if any(
            fnmatch(start.rpartition("/")[2] if deep else start, rule.removeprefix("**/"))
            and (deep or start.count("/") == rule.count("/"))
            for start in beginnings
        ):
            sent = line.startswith("!")
    return sent


def judge(cann, torch_npu, python):
    torch = re.sub(r"\.post\d+$", "", torch_npu)
    return judge_versions(torch_npu=torch_npu, torch=torch, cann=cann, python=f"{python}.0")


def test_what_is_copied_exists_and_is_sent_to_the_build():
    assert len(copied()) > 5
    for pattern in copied():
        found = list(ROOT.glob(pattern))
        assert found, pattern
        files = [file for path in found for file in ([path] if path.is_file() else path.rglob("*.py"))]
        assert all(is_sent(str(file.relative_to(ROOT))) for file in files), pattern


@pytest.mark.parametrize("path", [".git/config", ".env", "id_rsa", "logs/run/out.log", "test/output/0/train_0.log"])
def test_what_is_not_named_stays_outside(path):
    assert not is_sent(path)


@pytest.mark.parametrize("path", ["src/training/__pycache__/main.pyc", "src/open_clip_torch.egg-info/PKG-INFO"])
def test_what_this_machine_made_stays_outside(path):
    assert not is_sent(path)


def test_what_the_installation_and_the_wrappers_read_is_copied():
    read = {"setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "NOTICE", "src"}
    wrapper = (ROOT / "test" / "wrapper_lib.sh").read_text(encoding="utf-8")
    assert read | set(re.findall(r"\$REPO_ROOT/(\w+)/", wrapper)) <= {*copied(), "test"}


def test_the_extras_that_are_installed_exist():
    named = re.search(r"--editable '\.\[([\w,]+)\]'", DOCKERFILE)[1].split(",")
    extras = re.search(r"^EXTRAS = \{(.*?)^\}", (ROOT / "setup.py").read_text(encoding="utf-8"), re.M | re.S)[1]
    assert set(named) <= set(re.findall(r'"(\w+)":', extras))
    assert "npu" in named


def test_torch_for_the_cpu_comes_before_torch_npu_and_both_before_this_project():
    runs = " ".join(texts("RUN"))
    order = [runs.index(text) for text in ('--index-url "${TORCH_INDEX}" "torch==', '"torch_npu==', "--editable")]
    assert order == sorted(order)
    assert runs.count("pip install --no-cache-dir") == runs.count("pip install")


def test_the_default_versions_are_a_published_pair():
    args = defaults()
    assert texts("FROM") == ["${CANN_IMAGE}:${CANN_VERSION}-${CHIP}-${OS}-py${PYTHON_VERSION}"]
    judged = judge(args["CANN_VERSION"], args["TORCH_NPU_VERSION"], args["PYTHON_VERSION"])
    assert judged.verdict == "published", judged.line


def test_the_container_starts_as_another_user_than_root_with_a_command_that_exists():
    assert texts("USER") == ["${USER_ID}:${USER_ID}"]
    assert defaults()["USER_ID"] != "0"
    (command,) = [json.loads(rest) for rest in texts("CMD")]
    assert command[:2] == ["python3", "-m"]
    assert find_spec(command[2]) is not None
    (entry,) = [json.loads(rest) for rest in texts("ENTRYPOINT")]
    (script,) = re.findall(r"source /opt/open_clip/(\S+?);", entry[2])
    assert (ROOT / script).is_file()
    assert any(fnmatch(script, pattern) for pattern in copied())
    assert entry[2].endswith('exec "$@"')


def test_no_argument_or_variable_carries_a_secret():
    names = [*defaults(), *re.findall(r"(\w+)=", " ".join(texts("ENV")))]
    assert not [name for name in names if re.search(r"TOKEN|PASSWORD|SECRET|KEY|PROXY", name)]


def rows_of(text):
    return [
        [cell.strip("`") for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_page_names_the_arguments_with_their_defaults(page):
    text = page.read_text(encoding="utf-8")
    rows = rows_of(text)
    for name, value in defaults().items():
        # The address of the index stands in words.
        shown = [row[1] for row in rows if row[0] == name and row[1] not in defaults()]
        assert len(shown) == 1, name
        assert shown == [value] or name == "TORCH_INDEX"
    assert set(re.findall(r"--build-arg (\w+)=", text)) <= set(defaults())


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_versions_that_the_page_recommends_are_published_pairs(page):
    pairs = [row for row in rows_of(page.read_text(encoding="utf-8")) if re.match(r"\d+\.\d+\.", row[0])]
    assert len(pairs) > 3
    judged = [judge(*pair) for pair in pairs]
    assert [one.line for one in judged if one.verdict != "published"] == []
