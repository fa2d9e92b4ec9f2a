"""The nodes of a YAML file of settings: composed within bounds, each brought to what its flag takes."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.constructor import SafeConstructor

from open_clip.errors import ConfigError, printable
from training.params.values import Number, key_value, literal, plain, shown

_MOST_NODES: Final = 2_000
# key: value, and lists of lists in the value of a KEY=VALUE flag.
_MOST_DEPTH: Final = 6
_MOST_DIGITS: Final = 100
_TAG: Final = "tag:yaml.org,2002:"


def compose_mapping(text: str, name: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Give the keys of a mapping with the nodes of their values, which are typed when it is known what is wanted.

    Args:
        text: The file's.
        name: What messages call the file.

    Raises:
        ConfigError: It is not YAML, refers to its own parts, is too large or is no mapping of names.
    """
    try:
        root = _Composer(text).get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        reason = printable(" ".join(str(error).split()), 300)
        raise ConfigError(f"{name} is not valid YAML for settings: {reason}") from error
    if root is None or root.tag == f"{_TAG}null":
        return
    if not isinstance(root, yaml.MappingNode) or root.tag != f"{_TAG}map":
        kind = {"seq": "list"}.get(root.tag.removeprefix(_TAG), root.tag.removeprefix(_TAG))
        raise ConfigError(f"{name} holds a {printable(kind, 60)}; it must be a mapping of flag: value.")
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
            raise ConfigError(f"{name}, line {key.start_mark.line + 1}: a key must be the name of a flag.")
        yield key, value


class _Composer(yaml.SafeLoader):
    """Composes a small tree without references: a settings file needs none, and few of them make a huge one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._num_nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node and what is below it."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"{line} has an anchor or alias (& or *); write the value out.")
        self._num_nodes += 1
        if self._num_nodes > _MOST_NODES or self._depth > _MOST_DEPTH:
            raise yaml.YAMLError(f"{line} is one value too many, or too deep in others.")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def convert(action: argparse.Action, node: yaml.Node) -> Any:
    """Bring a node to what a flag would have made of the same words.

    Raises:
        argparse.ArgumentTypeError: It does not fit.
    """
    if isinstance(action.default, dict):
        return _pairs(node)
    if action.nargs == 0:
        switch = value_of(node)
        if not isinstance(switch, bool):
            raise argparse.ArgumentTypeError(f"{shown(switch)} is neither true nor false")
        return switch
    if isinstance(node, yaml.ScalarNode) and value_of(node) is None:
        if action.default in (None, ""):
            return action.default
        raise argparse.ArgumentTypeError(f"there is no value; without the line it is {shown(action.default)}")
    if action.nargs not in ("+", "*"):
        return _one(action, node)
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not nodes and action.nargs == "+":
        raise argparse.ArgumentTypeError("the list is empty; leave the line out instead")
    return [_one(action, item) for item in nodes]


def _one(action: argparse.Action, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise argparse.ArgumentTypeError(f"{shown(value_of(node))} is a list or mapping; give one value")
    value, word = value_of(node), node.value
    # YAML 1.1 takes 1e-3 for text and 010 for 8. Where a number is wanted its numbers count, else the word as it is.
    if isinstance(action.type, Number) and isinstance(value, int | float) and not isinstance(value, bool):
        word = repr(value)
    result = action.type(word) if callable(action.type) else word
    if action.choices is not None and result not in action.choices:
        raise argparse.ArgumentTypeError(f"{shown(word)} is none of {', '.join(map(str, action.choices))}")
    return result


def _pairs(node: yaml.Node) -> dict[str, Any]:
    """Read the value of a KEY=VALUE flag: a mapping, or words of that form."""
    value = value_of(node)
    if isinstance(node, yaml.MappingNode):
        pairs: dict[str, Any] = {}
        for key, item in node.value:
            name = str(value_of(key))
            if not name.isidentifier() or name in pairs:
                raise argparse.ArgumentTypeError(f"{shown(name)} is no name of a setting, or is there twice")
            read = value_of(item)
            pairs[name] = literal(name, read) if isinstance(read, str) else plain(name, read)
        return pairs
    words = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(word, str) for word in words):
        raise argparse.ArgumentTypeError(f"{shown(value)} is no mapping of key: value")
    return dict(key_value(word) for word in words)


def value_of(node: yaml.Node) -> Any:
    """Type a node by its tag: lists, mappings, numbers, true, false and null; any other plain word is text.

    Raises:
        argparse.ArgumentTypeError: It has another tag, or does not read as what its tag says.
    """
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [value_of(item) for item in node.value]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return {str(value_of(key)): value_of(value) for key, value in node.value}
    if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
        raise argparse.ArgumentTypeError(f"the tag !!{printable(kind, 60)} is not read here")
    read = _SCALARS[kind]
    try:
        if read is not None and len(node.value) > _MOST_DIGITS:
            raise ValueError
        return node.value if read is None else read(SafeConstructor(), node)
    except (ValueError, LookupError):
        raise argparse.ArgumentTypeError(f"{shown(node.value)} cannot be read as {kind}") from None


_SCALARS: Final[dict[str, Any]] = {
    "null": SafeConstructor.construct_yaml_null,
    "bool": SafeConstructor.construct_yaml_bool,
    "int": SafeConstructor.construct_yaml_int,
    "float": SafeConstructor.construct_yaml_float,
    "str": None,
    "timestamp": None,
    "value": None,
}
