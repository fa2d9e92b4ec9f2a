"""No module needs itself by way of others, imports inside functions included: each can be read after what it uses."""

import ast
import graphlib
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"


def name_of(path):
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imported_names(tree):
    """List what a module imports anywhere; what only a type checker imports is no need."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for line in node.body
        for inner in ast.walk(line)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in for_types:
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            assert not node.level, "relative imports are not looked at"
            yield from ((node.module, f"{node.module}.{alias.name}") for alias in node.names)


def graph_of(sources):
    """Map each module to the modules that it imports."""
    graph = {}
    for name, text in sources.items():
        pairs = imported_names(ast.parse(text))
        needed = {full if full in sources else module for module, full in pairs}
        graph[name] = needed & sources.keys() - {name}
    return graph


def find_cycle(sources):
    try:
        graphlib.TopologicalSorter(graph_of(sources)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_module_imports_itself_by_way_of_others():
    assert find_cycle({name_of(path): path.read_text(encoding="utf-8") for path in SRC.rglob("*.py")}) is None


def test_a_cycle_through_a_function_is_seen_and_one_of_types_alone_is_none():
    inside = {"a": "from b import x", "b": "def f():\n    import a"}
    assert set(find_cycle(inside)) == {"a", "b"}
    assert find_cycle({**inside, "b": "if TYPE_CHECKING:\n    import a"}) is None
    assert set(find_cycle({"p": "from p.c import x", "p.c": "from p import y", "q": "import p"})) == {"p", "p.c"}
