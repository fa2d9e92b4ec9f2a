"""Read the trainer's command line; the flags themselves are declared in the group files."""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import NoReturn

from open_clip.errors import ConfigError, printable, suggest_nearest
from training.params.data import DataParams
from training.params.file import look_into_settings, read_settings, refuse_hidden
from training.params.flags import add_group, title_of
from training.params.groups import RunParams, flags_of
from training.params.hardware import HardwareParams
from training.params.model import ImageParams, LockParams, ModelParams
from training.params.optim import OptimParams, ScheduleParams, settle_length
from training.params.recipe import RecipeParams, recipe_word
from training.params.run import CheckpointParams, EvaluateParams, ReportParams

# What a new user needs first; the other groups follow in the order of their declaration.
_FIRST_IN_HELP = (
    *(DataParams, ModelParams, OptimParams, ScheduleParams, CheckpointParams, EvaluateParams, HardwareParams),
    *(ReportParams, RecipeParams, LockParams, ImageParams),
)
_OTHER_DASHES = ("\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212")
_USAGE = """%(prog)s --train-data FILE --model NAME [FLAGS]
       %(prog)s --val-data FILE --model NAME --pretrained FILE
       %(prog)s --config FILE [FLAGS]"""


class _HelpFormatter(argparse.HelpFormatter):
    """Breaks lines between words only: a flag cut at its hyphen can neither be read nor copied."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class FlagParser(argparse.ArgumentParser):
    """Parser whose errors are one line through the log, with the status of a wrong flag."""

    def format_help(self) -> str:
        """Write the help, the groups in the order in which people need them."""
        titles = ["options", "optional arguments", *map(title_of, _FIRST_IN_HELP)]
        self._action_groups.sort(key=lambda one: titles.index(one.title) if one.title in titles else len(titles))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print after a page of usage."""
        shown = printable(message.removeprefix("argument "), 400)
        raise ConfigError(f"{shown}. `--help` lists the flags.")


# Flags of open_clip 3.3.0 that people's scripts hold and this trainer does not have yet.
_NOT_THERE_YET = frozenset(
    (
        "--torchscript",
        "--trace",
        "--wandb-notes",
        "--wandb-project-name",
        "--copy-codebase",
        "--horovod",
        "--use-bnb-linear",
    )
)


def make_parser(own: type | None = None) -> argparse.ArgumentParser:
    """Build the parser of all flags, one section a group.

    Args:
        own: Flags that a recipe declares.
    """
    parser = FlagParser(
        prog="python -m training.main",
        usage=_USAGE,
        formatter_class=_HelpFormatter,
        description="Train, fine-tune or evaluate a CLIP model on NPU, CUDA or CPU.",
    )
    parser.add_argument("--config", help="YAML file of settings; flags on the command line win over it", metavar="FILE")
    for group in fields(RunParams):
        if group.name != "own":
            add_group(parser, group.type)  # type: ignore[arg-type]
    if own is not None:
        _add_own(parser, own)
    return parser


def _add_own(parser: argparse.ArgumentParser, own: type) -> None:
    """Add the flags of a recipe.

    Raises:
        ConfigError: They are not declared as flags, or the trainer has one of the name.
    """
    whose = f"--task: the flags of the recipe, {own.__module__}.{own.__qualname__},"
    try:
        bare = [item.name for item in fields(own) if "flag" not in item.metadata]
    except TypeError:
        raise ConfigError(f"{whose} are no dataclass; put @dataclass(frozen=True) above it.") from None
    if bare:
        raise ConfigError(f"{whose} hold {bare[0]!r}, which is no flag: declare it with training.params.flags.flag.")
    try:
        add_group(parser, own)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{whose} hold {error.argument_name}, which the trainer has itself; rename it.") from None


def _find_task(words: Sequence[str]) -> str | None:
    """Look for ``--task`` on the command line and in the file of settings: it decides which flags there are."""
    parser = FlagParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--task", type=recipe_word)
    parser.add_argument("--config")
    found = parser.parse_known_args(words)[0]
    task: str | None = found.task
    if task is None and found.config is not None:
        saved = look_into_settings(found.config).get("task")
        task = recipe_word(saved) if isinstance(saved, str) else None
    return task


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the trainer's flags.

    Args:
        args: The words of the command line; the program's own when None.

    Returns:
        One attribute a flag, spelt with underscores as upstream has them; optimizer defaults are filled in from the
        model's name.

    Raises:
        ConfigError: For an unknown flag or config key, with the nearest known ones, and for a value that does not fit.
    """
    words = list(sys.argv[1:] if args is None else args)
    for word in words:
        # Python's parser takes this for the end of the flags, even behind an equals sign.
        if word == "--" or word.endswith("=--"):
            raise ConfigError(f"'{printable(word, 80)}': `--` is no value of a flag; leave it out.")
    parser = make_parser(flags_of(_find_task(words)))
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        raise ConfigError(_unknown_flag_message(parser, unknown))
    typed = namespace
    if namespace.config is not None:
        parser.set_defaults(**read_settings(parser, namespace.config))
        namespace = parser.parse_args(words)
    refuse_hidden(namespace)
    settle_length(namespace, typed)
    # timm's optimizers have defaults of their own.
    defaults = {} if namespace.opt.startswith("timm/") else default_optimizer_settings(namespace.model)
    for name, value in defaults.items():
        if getattr(namespace, name) is None:
            setattr(namespace, name, value)
    return namespace


def default_optimizer_settings(model_name: str) -> dict[str, float]:
    """Give the AdamW settings of the CLIP paper (arXiv 2103.00020, table 18) for a model's kind.

    Source: open_clip 3.3.0, ``get_default_params``.
    """
    if "vit" in model_name.lower():
        return {"lr": 5e-4, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6}
    return {"lr": 5e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def _unknown_flag_message(parser: argparse.ArgumentParser, unknown: list[str]) -> str:
    word = unknown[0]
    shown = printable(word, 80)
    if word.startswith(_OTHER_DASHES):
        return f"'{shown}' begins with a typographic dash, as copied from a page; type the flag with two hyphens."
    if not word.startswith("-"):
        return f"'{shown}' stands on the command line without a flag before it; quote values that hold spaces."
    name = printable(word.partition("=")[0], 80)
    if name in _NOT_THERE_YET:
        return f"upstream's {name} is not there yet; leave it out."
    known = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    if word.split()[0] in known:
        return f"'{shown}' is one word: put no quotes around a flag together with its value."
    hint = suggest_nearest(name, known) or " `--help` lists the flags."
    return f"unknown flag {printable(name, 200)}.{hint}"
