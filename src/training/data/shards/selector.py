"""Which members of a sample are its image, its caption and its further columns.

It groups names into samples and reads captions; bytes come from elsewhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from open_clip.errors import ConfigError, DataError
from training.data.encoding import MAX_CAPTION_BYTES, why_not_caption
from training.data.members import MAX_JSON_BYTES, MemberColumn, decode_text, draw, parse_record
from training.data.shards.tar import Member
from training.data.source import IMAGE, TEXT

_JSON: Final = "json"


class RawSample(NamedTuple):
    """The members of one sample: its key and a member a suffix (lower case, what follows the name's first dot)."""

    key: str
    members: dict[str, Member]


class Chosen(NamedTuple):
    """The members of one sample that are read, in the order of `Selector.columns`, and the further columns' ways."""

    members: tuple[Member, ...]
    ways: tuple[int, ...]


@dataclass(frozen=True)
class Selector:
    """What to take from each sample.

    Attributes:
        image_keys: suffixes an image may have; the first that a sample holds is taken.
        text_keys: suffixes a caption file may have, likewise.
        json_keys: fields of the sample's ``.json`` that hold captions, in place of a caption file.
        json_weights: how often each field is drawn, one number a field; without them, evenly.
        takes_image: read the image; else a sample needs none.
        takes_text: read the caption, likewise.
        further: columns of other members, all of which a sample needs.
    """

    image_keys: tuple[str, ...] = ("jpg", "png", "jpeg", "webp")
    text_keys: tuple[str, ...] = ("txt",)
    json_keys: tuple[str, ...] = ()
    json_weights: tuple[float, ...] = ()
    takes_image: bool = True
    takes_text: bool = True
    further: tuple[MemberColumn, ...] = ()

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
    def columns(self) -> tuple[str, ...]:
        """Names of what is read, in the order of a sample's members."""
        plain = [name for name, taken in ((IMAGE, self.takes_image), (TEXT, self.takes_text)) if taken]
        return (*plain, *(column.name for column in self.further))

    @property
    def num_plain(self) -> int:
        """Number of columns that are not further ones."""
        return self.takes_image + self.takes_text

    @property
    def identity(self) -> str:
        """What an index depends on: a changed choice of members makes another index."""
        # An index of images and captions alone keeps the words that older index files hold.
        plain = f"{';'.join(self._image_keys())}|{';'.join(self._caption_keys())}"
        return "|".join([plain, *(";".join(way.suffix for way in column.ways) for column in self.further)])

    def is_concerned(self, sample: RawSample) -> bool:
        """Tell whether a sample has a member that could be one of its columns."""
        further = [way.suffix for column in self.further for way in column.ways]
        return not sample.members.keys().isdisjoint((*self._image_keys(), *self._caption_keys(), *further))

    def choose(self, sample: RawSample) -> Chosen | str:
        """Return a sample's members, or why it cannot be used."""
        members = sample.members
        image = next((members[key] for key in self._image_keys() if key in members), None)
        text = next((members[key] for key in self._caption_keys() if key in members), None)
        lacks_image, lacks_text = self.takes_image and image is None, self.takes_text and text is None
        if lacks_image and lacks_text:
            return f"neither image ({', '.join(self.image_keys)}) nor caption ({', '.join(self._caption_keys())})"
        if lacks_image:
            return f"no image ({', '.join(self.image_keys)})"
        if lacks_text:
            return f"no caption ({', '.join(self._caption_keys())})"
        limit = MAX_JSON_BYTES if self.json_keys else MAX_CAPTION_BYTES
        if text is not None and text.size > limit:
            what = "json" if self.json_keys else "caption"
            return f"{what} of {text.size:,} bytes is over the limit of {limit:,}"
        further = self._choose_further(members)
        if isinstance(further, str):
            return further
        plain = tuple(member for member in (image, text) if member is not None)
        return Chosen(plain + further.members, further.ways)

    def _choose_further(self, members: dict[str, Member]) -> Chosen | str:
        chosen, ways = [], []
        for column in self.further:
            way = column.choose(members)
            if way is None:
                return column.lacking
            member = members[column.ways[way].suffix]
            reason = column.why_not_size(way, member.size)
            if reason is not None:
                return reason
            chosen.append(member)
            ways.append(way)
        return Chosen(tuple(chosen), tuple(ways))

    def caption(self, content: bytes, seed: int) -> str:
        """Read a caption from its member's bytes; ``seed`` chooses where there are several.

        Raises:
            DataError: it is empty, far too long, not UTF-8, or not where ``json_keys`` say.
        """
        text = self._from_json(content, seed) if self.json_keys else decode_text(content, "caption")
        reason = why_not_caption(text)
        if reason is not None:
            raise DataError(reason)
        return text

    def _image_keys(self) -> tuple[str, ...]:
        return self.image_keys if self.takes_image else ()

    def _caption_keys(self) -> tuple[str, ...]:
        if not self.takes_text:
            return ()
        return (_JSON,) if self.json_keys else self.text_keys

    def _from_json(self, content: bytes, seed: int) -> str:
        record = parse_record(content)
        if not isinstance(record, dict):
            raise DataError("json holds no fields")
        weights = self.json_weights or (1.0,) * len(self.json_keys)
        choices = [
            (text, weight / len(texts))
            for key, weight in zip(self.json_keys, weights, strict=True)
            for texts in [_texts(record.get(key))]
            for text in texts
            if weight > 0
        ]
        if not choices:
            raise DataError(f"json holds no caption under {', '.join(self.json_keys)}")
        return draw(choices, seed)


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


def _texts(value: object) -> list[str]:
    """Return the captions of a field: a string, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]
