"""Which members of a sample are its image and its caption.

It groups names into samples and reads captions; bytes come from elsewhere.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from open_clip.errors import ConfigError, DataError
from training.data.encoding import MAX_CAPTION_BYTES, why_not_caption
from training.data.order import sample_seed
from training.data.shards.tar import Member

MAX_JSON_BYTES: Final = 1 << 20
_JSON: Final = "json"
_CAPTION_STREAM: Final = 0x43617074


class CaptionError(DataError):
    """A sample has no usable caption; the text is the reason, in one line."""


class RawSample(NamedTuple):
    """The members of one sample: its key and a member a suffix (lower case, what follows the name's first dot)."""

    key: str
    members: dict[str, Member]


@dataclass(frozen=True)
class Selector:
    """What to take from each sample.

    Attributes:
        image_keys: suffixes an image may have; the first that a sample holds is taken.
        text_keys: suffixes a caption file may have, likewise.
        json_keys: fields of the sample's ``.json`` that hold captions, in place of a caption file.
        json_weights: how often each field is drawn, one number a field; without them, evenly.
    """

    image_keys: tuple[str, ...] = ("jpg", "png", "jpeg", "webp")
    text_keys: tuple[str, ...] = ("txt",)
    json_keys: tuple[str, ...] = ()
    json_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.image_keys or not (self.text_keys or self.json_keys):
            raise ConfigError("--image-key and --text-key must name at least one suffix each, such as jpg and txt.")
        if self.json_weights and len(self.json_weights) != len(self.json_keys):
            raise ConfigError(
                f"--json-text-key-probs has {len(self.json_weights)} numbers for the {len(self.json_keys)} fields of "
                "--json-text-key: give one each."
            )
        if any(not 0 <= weight < float("inf") for weight in self.json_weights) or (
            self.json_weights and not any(self.json_weights)
        ):
            raise ConfigError("--json-text-key-probs takes numbers of at least 0, not all 0.")

    @property
    def identity(self) -> str:
        """What an index depends on: a changed choice of members makes another index."""
        return ";".join(self.image_keys) + "|" + ";".join(self._caption_keys())

    def is_concerned(self, sample: RawSample) -> bool:
        """Tell whether a sample has a member that could be an image or a caption."""
        return not sample.members.keys().isdisjoint((*self.image_keys, *self._caption_keys()))

    def choose(self, sample: RawSample) -> tuple[Member, Member] | str:
        """Return a sample's image and caption members, or why it cannot be used."""
        image = next((sample.members[key] for key in self.image_keys if key in sample.members), None)
        text = next((sample.members[key] for key in self._caption_keys() if key in sample.members), None)
        if image is None and text is None:
            return f"neither image ({', '.join(self.image_keys)}) nor caption ({', '.join(self._caption_keys())})"
        if image is None:
            return f"no image ({', '.join(self.image_keys)})"
        if text is None:
            return f"no caption ({', '.join(self._caption_keys())})"
        limit = MAX_JSON_BYTES if self.json_keys else MAX_CAPTION_BYTES
        if text.size > limit:
            what = "json" if self.json_keys else "caption"
            return f"{what} of {text.size:,} bytes is over the limit of {limit:,}"
        return image, text

    def caption(self, content: bytes, seed: int) -> str:
        """Read a caption from its member's bytes; ``seed`` chooses where there are several.

        Raises:
            CaptionError: it is empty, far too long, not UTF-8, or not where ``json_keys`` say.
        """
        text = self._from_json(content, seed) if self.json_keys else _decode(content)
        reason = why_not_caption(text)
        if reason is not None:
            raise CaptionError(reason)
        return text

    def _caption_keys(self) -> tuple[str, ...]:
        return (_JSON,) if self.json_keys else self.text_keys

    def _from_json(self, content: bytes, seed: int) -> str:
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CaptionError(f"json cannot be read: {' '.join(str(error).split())[:100]}") from None
        if not isinstance(record, dict):
            raise CaptionError("json holds no fields")
        weights = self.json_weights or (1.0,) * len(self.json_keys)
        choices = [
            (text, weight / len(texts))
            for key, weight in zip(self.json_keys, weights, strict=True)
            for texts in [_texts(record.get(key))]
            for text in texts
            if weight > 0
        ]
        if not choices:
            raise CaptionError(f"json holds no caption under {', '.join(self.json_keys)}")
        return _draw(choices, seed)


def group_members(members: Iterable[Member]) -> Iterator[RawSample]:
    """Put neighbouring members of one key together.

    The key is the path up to the first dot of the base name; a new key or a repeated suffix starts a sample.

    Source: the grouping of webdataset and of open_clip_torch 3.3.0.
    """
    current: RawSample | None = None
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, dot, suffix = base.partition(".")
        # Without a suffix it is no part of a sample; hidden files are leavings of file managers.
        if not dot or not stem:
            continue
        key, suffix = folder + slash + stem, suffix.lower()
        if current is None or key != current.key or suffix in current.members:
            if current is not None:
                yield current
            current = RawSample(key, {})
        current.members[suffix] = member
    if current is not None:
        yield current


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionError(f"caption is not UTF-8 at byte {error.start}") from None


def _texts(value: object) -> list[str]:
    """Return the captions of a field: a string, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]


def _draw(choices: list[tuple[str, float]], seed: int) -> str:
    """Draw by weight; the same seed draws the same."""
    total = sum(weight for _, weight in choices)
    point = sample_seed(seed, 0, _CAPTION_STREAM) / (1 << 63) * total
    for text, weight in choices:
        point -= weight
        if point < 0:
            return text
    return choices[-1][0]
