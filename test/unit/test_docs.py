"""The pages people read: links lead somewhere, named files exist, the languages agree, commands can be typed."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from open_clip.errors import ConfigError
from training.params import check_rules, parse_args

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("README*.md"),
        *(path for folder in ("docs", "docker", "recipes") for path in (ROOT / folder).rglob("*.md")),
    ]
)
PAPERS = [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
PAIRS = [(page, page.with_suffix("").with_suffix(".zh.md")) for page in PAGES if not page.name.endswith(".zh.md")]
TOP_FOLDERS = ("src", "test", "tools", "docs", "docker", "examples", "constraints", "benchmarks", "scripts", ".ci")
# Of torchrun and sbatch.
LAUNCHER_FLAGS = {"--nnodes", "--rdzv_backend", "--rdzv_endpoint", "--max_restarts", "--shutdown_timeout"}
LAUNCHER_FLAGS |= {"--nodes", "--ntasks-per-node", "--gres"}
# Of pip and of docker.
INSTALLER_FLAGS = {"--index-url", "--build-arg", "--file", "--tag", "--rm", "--volume", "--shm-size", "--network"}
INSTALLER_FLAGS |= {"--group-add", "--env", "--user", "--privileged", "--sort"}
# What runs write, so a page names it and no checkout holds it.
WRITTEN = ("test/output/",)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")


def named(path):
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else None


def read(path):
    return path.read_text(encoding="utf-8")


def headings(text):
    return re.findall(r"^(#+) (.+)$", text, re.MULTILINE)


def anchor(heading):
    """Name a heading as web views of the repository do: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(text):
    """Give the shell commands of a page's indented blocks, continued lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    starts = ("make ", "python ", "python3 ", "bash ", "torchrun ", "pip ", "source ", "export ", "docker ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(starts)]


@pytest.fixture(params=PAPERS, ids=named)
def paper(request):
    return request.param


@pytest.fixture(params=PAGES, ids=named)
def page(request):
    return request.param


def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(paper):
    broken = []
    for target in LINK.findall(read(paper)):
        if "://" in target:
            continue
        name, _, wanted = target.partition("#")
        linked = (paper.parent / name).resolve() if name else paper
        if not linked.exists() or (wanted and wanted not in {anchor(title) for _, title in headings(read(linked))}):
            broken.append(target)
    assert not broken


def test_every_named_path_of_the_repository_exists(paper):
    missing = []
    for text in CODE.findall(read(paper)):
        for word in text.split():
            path = word.rstrip("/.,")
            is_ours = path.partition("/")[0] in TOP_FOLDERS and "/" in path
            is_pattern = any(char in path for char in "*{}<>$=")
            if is_ours and not is_pattern and not path.startswith(WRITTEN) and not (ROOT / path).exists():
                missing.append(path)
    assert not missing


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: named(pair[0]))
def test_both_languages_have_the_same_parts(pair):
    english, chinese = (read(path) for path in pair)
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert commands(english) == commands(chinese)
    assert english.count("\n| --- |") == chinese.count("\n| --- |")
    assert f"({pair[1].name})" in english
    assert f"({pair[0].name})" in chinese


def test_every_make_target_named_is_in_the_makefile(paper):
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    text = read(paper)
    named_targets = {words[1] for words in commands(text) if words[0] == "make"}
    named_targets |= {code.split()[1] for code in CODE.findall(text) if code.startswith("make ")}
    assert not {target for target in named_targets if "=" not in target} - targets


def test_every_flag_named_is_one_of_ours(page):
    known = set(FLAG.findall(read(ROOT / "docs" / "flags.md")))
    wrapper = read(ROOT / "test" / "wrapper_lib.sh")
    known |= {f"--{name}" for name in re.findall(r"--([a-z_]+)=", wrapper)}
    for program in (*(ROOT / "tools").glob("*.py"), *(ROOT / "src" / "training" / "dialects").rglob("*.py")):
        known |= set(FLAG.findall(read(program)))
    for program in ("open_clip/push_to_hf_hub.py", "training/export.py"):
        known |= set(FLAG.findall(read(ROOT / "src" / program)))
    known |= {"--help", "--nproc_per_node", "--check"} | LAUNCHER_FLAGS | INSTALLER_FLAGS
    sources = (ROOT / "src" / "training").rglob("*.py")
    known |= {flag for path in sources if "doctor" in str(path) for flag in FLAG.findall(read(path))} | {"--report"}
    known |= set(FLAG.findall(read(ROOT / "benchmarks" / "__main__.py")))
    assert not set(FLAG.findall(read(page))) - known


def test_every_trainer_command_is_accepted_by_the_trainer(page):
    for words in commands(read(page)):
        if "training.main" not in words or "--config" in words:
            continue
        check_rules(parse_args(words[words.index("training.main") + 1 :]))


def test_every_wrapper_command_names_a_script_and_its_parameters(page):
    known = set(re.findall(r"--([a-z_]+)=", read(ROOT / "test" / "wrapper_lib.sh")))
    for words in commands(read(page)):
        if words[0] != "bash":
            continue
        assert (ROOT / words[1]).is_file()
        own, _, extra = " ".join(words[2:]).partition(" -- ")
        assert set(re.findall(r"--([a-z_]+)=", own)) <= known
        parse_args(extra.split())


def flag_rows(text):
    """Give the flags and the literal defaults of a flag page, row by row."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `--")]
    return [(row[0], row[1] if row[1].startswith("`") else "") for row in rows]


def test_the_english_flag_page_is_what_its_tool_writes():
    spec = importlib.util.spec_from_file_location("flag_pages", ROOT / "tools" / "flag_pages.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert read(ROOT / "docs" / "flags.md") == tool.write_page(), "run: python tools/flag_pages.py"


def test_both_flag_pages_have_the_same_flags_and_defaults():
    assert flag_rows(read(ROOT / "docs/flags.md")) == flag_rows(read(ROOT / "docs/flags.zh.md"))


def test_a_command_that_the_trainer_refuses_would_be_noticed():
    words = commands("    python -m training.main --trian-data x \\\n        --epochs 1\n")[0]
    assert words[-2:] == ["--epochs", "1"]
    with pytest.raises(ConfigError, match="--train-data"):
        parse_args(words[3:])


def vocabulary(language):
    """Give the rows of the vocabulary page as (word, Chinese terms, words not to use)."""
    name = {"en": "vocabulary.md", "zh": "vocabulary.zh.md"}[language]
    rows = [line.strip("| ").split(" | ") for line in read(ROOT / "docs" / name).splitlines() if line.startswith("|")]
    return [(row[0], row[1], row[3]) for row in rows[2:]]


CHINESE_PAGES = [page for page in PAGES if page.name.endswith(".zh.md")]
CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


def test_both_vocabulary_pages_hold_the_same_terms():
    assert vocabulary("en") == vocabulary("zh")
    assert len({chinese for _, chinese, _ in vocabulary("zh")}) == len(vocabulary("zh"))


@pytest.mark.parametrize("page", [page for page in CHINESE_PAGES if page.name != "vocabulary.zh.md"], ids=named)
def test_chinese_pages_have_one_term_a_thing(page):
    spare = {word for _, _, banned in vocabulary("zh") for word in banned.split(", ") if CHINESE.match(word)}
    assert len(spare) > 20
    assert not {word for word in spare if word in read(page)}


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=named)
def test_no_line_breaks_between_chinese_characters(page):
    """A line break inside a paragraph is shown as a blank, which Chinese text does not have."""
    lines = [line.strip() for line in read(page).splitlines() if not line.startswith("    ")]
    torn = [
        line[-12:] + "/" + after[:12]
        for line, after in zip(lines, lines[1:], strict=False)
        if line and CHINESE.match(line[-1]) and CHINESE.match(after[:1]) and not line.startswith(("#", "|", "-"))
    ]
    assert not torn


@pytest.mark.parametrize("package", ["training", "open_clip"])
def test_the_rooms_are_drawn_in_the_order_in_which_imports_go(package):
    contract = read(ROOT / "pyproject.toml").partition(f'containers = ["{package}"]')[2].partition("]")[0]
    layers = [set(re.findall(r"\w+", line)) for line in re.findall(r'"(.+)"', contract)]
    block = read(ROOT / "ARCHITECTURE.md").partition(f"\n    src/{package}/ ")[2].partition("\n\n")[0]
    drawn = {}
    for number, names in re.findall(r"^ +(\d+)  ((?:\S+ )*\S+)(?:  |$)", block, re.MULTILINE):
        drawn.setdefault(int(number), set()).update(name.split(".")[0].split("/")[0] for name in names.split())
    assert list(drawn) == list(range(len(drawn), 0, -1))
    assert [names for names in drawn.values() if not any(names <= layer for layer in layers)] == []
    found = [next(place for place, layer in enumerate(layers) if names <= layer) for names in drawn.values()]
    assert found == sorted(set(found))
    # Names that are doors of upstream's alone stand in no room.
    assert set.union(*layers) - set.union(*drawn.values()) <= {"public", "hf_configs", "constants", "version"}
