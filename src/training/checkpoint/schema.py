"""What the entries of a checkpoint may be. Looks at kinds and ranges; what fits a model is told where it goes back.

Tensors of weights are ``open_clip.checkpoint``'s, those of the optimizer ``training.optim``'s.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from open_clip.checked_json import MOST_COUNT, is_number
from open_clip.errors import CheckpointError, printable

Check = Callable[[object, str], None]
#: What a checkpoint holds, by the names of its entries: numbers, text, tensors and containers of these.
Payload = dict[str, Any]
#: Entry of a payload that says in which folder its tensors are; only a folder's reader writes it.
FOLDER = "folder"
#: Entries of a recipe's own parameters and of their average; absent where a recipe has none.
OWN_WEIGHTS, OWN_AVERAGE = "task_state_dict", "task_state_dict_ema"
_MERSENNE_WORDS = 624


def check_payload(payload: Payload, path: Path) -> Payload:
    """Compare a payload's entries with what a trainer writes, this one or upstream's; those it lacks are left alone.

    Returns:
        The payload.

    Raises:
        CheckpointError: Names the file, the entry and what it should be.
    """
    if not is_training_checkpoint(payload):
        return payload
    try:
        _PAYLOAD(payload, "")
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error} Take another checkpoint.") from None
    return payload


def is_training_checkpoint(payload: Mapping[str, Any]) -> bool:
    """Tell a trainer's checkpoint, of either kind, from weights alone, whose entries may be called anything."""
    return not payload.keys().isdisjoint(("state_dict", FOLDER))


def count(value: object, where: str) -> None:
    """Take whole numbers from 0 up."""
    if type(value) is not int or not 0 <= value <= MOST_COUNT:
        _refuse(value, where, "a whole number from 0 up")


def number(value: object, where: str) -> None:
    """Take numbers, those included that stand for none."""
    if not isinstance(value, float) and not is_number(value):
        _refuse(value, where, "a number")


def finite(value: object, where: str) -> None:
    """Take finite numbers."""
    if not is_number(value):
        _refuse(value, where, "a finite number")


def text(value: object, where: str) -> None:
    """Take text."""
    if not isinstance(value, str):
        _refuse(value, where, "text")


def entries(known: Mapping[str, Check], needed: tuple[str, ...] = ()) -> Check:
    """Take dicts whose known entries pass; others are newer versions' and are left alone."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "a dict")
        for key in needed:
            if key not in value:
                raise CheckpointError(f"its entry {_join(where, key)} is missing.")
        for key, check_entry in known.items():
            if key in value:
                check_entry(value[key], _join(where, key))

    return check


def by_name(check_entry: Check) -> Check:
    """Take dicts of text to what passes."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, where, "a dict")
        for key, item in value.items():
            text(key, f"{where} (a name in it)")
            check_entry(item, _join(where, key))

    return check


def each(check_item: Check, length: int | None = None) -> Check:
    """Take lists and tuples whose items pass, of some length where one is given."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list | tuple) or length not in (None, len(value)):
            _refuse(value, where, "a list" if length is None else f"a list of {length}")
        for place, item in enumerate(value):
            check_item(item, f"{where}[{place}]")

    return check


def parts(*checks: Check) -> Check:
    """Take lists and tuples of as many items, each of which passes a check of its own."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list | tuple) or len(value) != len(checks):
            _refuse(value, where, f"a list of {len(checks)}")
        for place, (item, check_item) in enumerate(zip(value, checks, strict=True)):
            check_item(item, f"{where}[{place}]")

    return check


def optional(check_value: Check) -> Check:
    """Take None too."""

    def check(value: object, where: str) -> None:
        if value is not None:
            check_value(value, where)

    return check


def _setting(value: object, where: str) -> None:
    if not isinstance(value, str) and (type(value) is not int or abs(value) > MOST_COUNT):
        _refuse(value, where, "a whole number or text")


def _positive(value: object, where: str) -> None:
    if not is_number(value) or value <= 0:
        _refuse(value, where, "a number above 0")


def _bytes(value: object, where: str) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.uint8 or value.dim() != 1:
        _refuse(value, where, "a tensor of bytes")


def _numpy_words(value: object, where: str) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.int64 or value.shape != (_MERSENNE_WORDS,):
        _refuse(value, where, f"{_MERSENNE_WORDS} whole numbers")


def _numpy_place(value: object, where: str) -> None:
    count(value, where)
    if is_number(value) and value > _MERSENNE_WORDS:
        _refuse(value, where, f"at most {_MERSENNE_WORDS}")


def _tensor(value: object, where: str) -> None:
    if not isinstance(value, torch.Tensor):
        _refuse(value, where, "a tensor")


def _masters(value: object, where: str) -> None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.isfinite().all():
        _refuse(value, where, "a tensor of finite numbers")


def _join(where: str, key: object) -> str:
    return f"{where}.{printable(key, 60)}" if where else printable(key, 60)


def _refuse(value: object, where: str, wanted: str) -> NoReturn:
    if isinstance(value, torch.Tensor):
        shown = f"a tensor {tuple(value.shape)} of {value.dtype}"
    elif isinstance(value, dict | list | tuple | set):
        shown = f"a {type(value).__name__} of {len(value)}"
    else:
        shown = printable(value if isinstance(value, int | float) and abs(value) <= MOST_COUNT else type(value), 60)
    raise CheckpointError(f"its entry {where} is {shown} and should be {wanted}.")


_STEP = each(count, 2)
_PROGRESS = entries(
    {
        **dict.fromkeys(("epoch", "batch", "step", "samples_seen", "skips_in_a_row", "rollbacks", "bad_rows"), count),
        "losses": by_name(entries({"last": number, "total": number, "weight": finite})),
        "skipped": each(_STEP),
        "left_out": each(_STEP),
        "recent_losses": each(finite),
    },
    needed=("epoch",),
)
_RNG = entries(
    {
        # As `random.getstate` and `numpy.random.get_state` give them.
        "python": parts(count, each(count, _MERSENNE_WORDS + 1), optional(finite)),
        "numpy": parts(text, _numpy_words, _numpy_place, count, finite),
        "torch": _bytes,
        "device_kind": text,
        "device": optional(_bytes),
    },
    needed=("python", "numpy", "torch", "device_kind", "device"),
)
_SCALER = entries(
    {
        **dict.fromkeys(("scale", "growth_factor", "backoff_factor"), _positive),
        **dict.fromkeys(("growth_interval", "_growth_tracker"), count),
        "apex": by_name(by_name(number)),
        "masters": each(_masters),
    }
)
_PAYLOAD = entries(
    {
        **dict.fromkeys(("epoch", "global_step", "samples_seen", "ema_updates"), count),
        "training_state": optional(
            entries({"progress": optional(_PROGRESS), "order": by_name(_setting), "rng": each(_RNG)})
        ),
        "scaler": _SCALER,
        **dict.fromkeys((OWN_WEIGHTS, OWN_AVERAGE), by_name(_tensor)),
        FOLDER: text,
    }
)
