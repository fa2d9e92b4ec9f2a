"""Optional packages: how to install them, and calls into transformers that run nothing a model brings along."""

import contextlib
import logging
from collections.abc import Iterator

from open_clip.errors import ConfigError, MissingDependency, first_line, printable

_logger = logging.getLogger(__name__)


def tell_of_hub(what: str, name: str) -> None:
    """Say that something is about to be taken from the hub, before it is."""
    _logger.warning(
        "%s: the Hugging Face hub, or its cache here, is asked for %s; HF_HUB_OFFLINE=1 asks the cache alone.",
        printable(name),
        what,
    )


def install_advice(extra: str) -> str:
    """Say how to install one of this project's extras.

    The package index has another project under the name of this distribution, so the name alone would bring that one.
    """
    return f"run `pip install -e '.[{extra}]'` in the folder of this project"


@contextlib.contextmanager
def run_no_foreign_code(what: str, remedy: str) -> Iterator[None]:
    """Give the context of a call into transformers: no code of a model's files runs, and no message advises to run it.

    The caller passes ``trust_remote_code=False``. Where a class named in a file is itself a loader, transformers drops
    that word and asks at the terminal; here it does not ask either.

    Args:
        what: what is being read, the beginning of the message.
        remedy: what to do when it cannot be read, a sentence.

    Raises:
        ConfigError: it brings code of its own, or cannot be read.
        MissingDependency: it needs a package that is not installed.
    """
    from transformers import dynamic_module_utils

    waits_s = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        # Damaged or hostile files end in errors of every kind.
        if any("trust_remote_code" in str(part).lower() for part in _chain(error)):
            # Their message advises to trust the code: it must not reach the user, chained or not.
            raise ConfigError(
                f"{what} is refused: it brings Python code of its own, which is never run here. Use one that "
                "transformers knows by itself, or ask its author for files that need no code."
            ) from None
        if isinstance(error, ImportError):
            raise MissingDependency(
                f"{what} needs a package that is not installed: {first_line(error)}. For the common ones, "
                f"{install_advice('hf')}."
            ) from error
        raise ConfigError(f"{what} cannot be read: {first_line(error)}. {remedy}") from error
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = waits_s


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those it came from, which a traceback prints too."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
