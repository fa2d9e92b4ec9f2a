"""Turn a dataclass into a group of command line flags and back; knows no flag by name."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from training.params.values import Number, key_value, path, text

Group = TypeVar("Group")


@dataclass(frozen=True)
class Flag:
    """How one dataclass field appears on the command line."""

    help: str
    parse: Callable[[str], Any] = text
    choices: Sequence[Any] | None = None
    nargs: str | None = None
    aliases: tuple[str, ...] = ()
    action: type[argparse.Action] | None = None
    metavar: str | None = None


def flag(default: object, help: str, **options: Any) -> Any:
    """Declare a dataclass field that is also a flag.

    Args:
        default: A ``bool`` makes the flag a switch.
        help: One sentence: unit, and one reason to change it.
        options: Fields of :class:`Flag`; ``type`` is what turns a word into the value (``values.py``), any text if not
            given.
    """
    options["parse"] = options.pop("type", text)
    return field(default=default, metadata={"flag": Flag(help=help, **options)})


class KeyValueAction(argparse.Action):
    """Collect ``key=value`` words into a dict; values are Python literals where they parse, else strings."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: object = None
    ) -> None:
        """Store the parsed words under ``dest``."""
        try:
            pairs = dict(map(key_value, values))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, pairs)


def option_name(field_name: str) -> str:
    """Spell a field name as a flag: ``batch_size`` is ``--batch-size``."""
    return "--" + field_name.replace("_", "-")


def title_of(group: type) -> str:
    """Give the heading of a group: the first line of its docstring."""
    return (group.__doc__ or group.__name__).strip().partition("\n")[0].rstrip(".")


def add_group(parser: argparse.ArgumentParser, group: type) -> None:
    """Add one dataclass's flags to the parser under a heading."""
    section = parser.add_argument_group(title_of(group))
    for item in fields(group):
        spec: Flag = item.metadata["flag"]
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        options: dict[str, Any] = {"dest": item.name, "default": default, "help": _help_text(spec, default)}
        if isinstance(default, bool):
            options["action"] = "store_true"
        else:
            metavar = spec.metavar or _metavar(spec)
            options.update(type=spec.parse, choices=spec.choices, nargs=spec.nargs, metavar=metavar)
            if spec.action is not None:
                options["action"] = spec.action
        section.add_argument(option_name(item.name), *spec.aliases, **options)


def read_group(group: type[Group], namespace: argparse.Namespace) -> Group:
    """Build one group from a parsed namespace."""
    names = [item.name for item in fields(group)]  # type: ignore[arg-type]
    return group(**{name: getattr(namespace, name) for name in names})


def _metavar(spec: Flag) -> str:
    """Name what stands behind a flag by its kind, which is shorter than its own name in capitals."""
    if spec.choices:
        shown = ",".join(map(str, spec.choices))
        return f"{{{shown}}}" if len(shown) < 50 else f"{{{','.join(map(str, spec.choices[:4]))},...}}"
    if isinstance(spec.parse, Number):
        return "N" if spec.parse.kind is int else "X"
    return "PATH" if spec.parse is path else "TEXT"


def _help_text(spec: Flag, default: object) -> str:
    words = spec.help.replace("%", "%%")
    if default in (None, False, "", {}) or "default" in words:
        return words
    shown = {"\t": "TAB"}.get(default, default) if isinstance(default, str) else default
    return f"{words} (default: {shown})"
