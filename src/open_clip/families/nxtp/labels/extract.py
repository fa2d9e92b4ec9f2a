"""From a caption to labels: which characters and words count, and the tagger that finds the nouns.

Source: the steps of G3M's training labels, with their known faults mended; rule `public` keeps the faults.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Protocol

from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.families.nxtp.labels.nouns import Noun, NounTagger
from open_clip.families.nxtp.labels.packages import NltkTagger, SpacyTagger, TextBlobTagger
from open_clip.families.nxtp.labels.rules import RulesTagger

#: Ways to find nouns, and `list` for texts that are labels already, joined by commas.
EXTRACTORS: Final = ("rules", "nltk", "spacy", "textblob", "list")
#: `fixed` leaves whole words out; `public` deletes the same letters wherever they stand: "today" becomes "to".
RULES: Final = ("fixed", "public")
# Words of captions that name no object. Their order is that of the public deletion: "persons" leaves an "s" there.
NOISE_WORDS: Final = (
    "person",
    "persons",
    "stock",
    "illustration",
    "foreground",
    "background",
    "photography",
    "image",
    "images",
    "front",
    "day",
    "ounce",
    "top",
)
_NOISE: Final = frozenset(NOISE_WORDS)
_SHORTEST: Final = 3
_QUOTES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'"})
_PUBLIC_SPACES: Final = re.compile(r"[,&\n]")
_PUBLIC_REFUSED: Final = re.compile(r"[^a-zA-Z' 0-9.&-]")
# Letters and digits, joined inside by a hyphen, an apostrophe, a full stop or &; so no label holds a comma or a blank.
_LABEL: Final = re.compile(r"[^\W_]+(?:[-'.&][^\W_]+)*")


class LabelExtractor(Protocol):
    """Finds the labels of a caption."""

    def extract(self, caption: str | Sequence[str]) -> list[str]:
        """Return labels in the order of their first occurrence.

        Args:
            caption: a caption, or all captions of one image, whose labels are joined.
        """
        ...


class NounExtractor:
    """The nouns of captions, singular.

    Args:
        tagger: finds the nouns.
        rule: one of `RULES`.
        keep_numbers: keep words that hold a digit.
    """

    def __init__(self, tagger: NounTagger, rule: str = "fixed", keep_numbers: bool = False) -> None:
        self._tagger = tagger
        self._is_public = rule == "public"
        self._keep_numbers = keep_numbers

    def extract(self, caption: str | Sequence[str]) -> list[str]:
        """Return the labels of a caption, or of all captions of one image."""
        captions = [caption] if isinstance(caption, str) else caption
        found: dict[str, None] = {}
        for text in captions:
            found |= dict.fromkeys(self._labels_of(text))
        return list(found)

    def _labels_of(self, caption: str) -> list[str]:
        if self._is_public:
            # Publicly equal words are dropped before their singulars are taken, so equal labels may come out of one
            # caption; they are one label here, as a target that is asked for twice would only count double.
            return [noun.lemma for noun in self._tagger.nouns(_clean_as_public(caption)) if self._is_label(noun)]
        nouns = self._tagger.nouns(_clean(caption))
        return [noun.lemma for noun in nouns if self._is_label(noun) and _NOISE.isdisjoint(noun)]

    def _is_label(self, noun: Noun) -> bool:
        has_digit = any(char.isdigit() for char in noun.word)
        is_kept = self._keep_numbers if has_digit else True
        return is_kept and len(noun.lemma) >= _SHORTEST and _LABEL.fullmatch(noun.lemma) is not None


class ListExtractor:
    """Texts that are labels already, joined by commas, as class names of ImageNet."""

    def extract(self, caption: str | Sequence[str]) -> list[str]:
        """Return the labels of a text, or of several."""
        return split_labels(caption)


def make_extractor(name: str = "rules", rule: str = "fixed", keep_numbers: bool = False) -> LabelExtractor:
    """Make the extractor of a name.

    Args:
        name: one of `EXTRACTORS`; ``spacy:MODEL`` names another model of spaCy's.
        rule: one of `RULES`.
        keep_numbers: keep words that hold a digit.

    Raises:
        ConfigError: there is none of that name, or no such rule.
        MissingDependency: a package or a data file is missing; one line says which and where it comes from.
    """
    if rule not in RULES:
        raise ConfigError(f"label rule {printable(rule, 100)!r} is not known: it is {' or '.join(RULES)}.")
    if name == "list":
        return ListExtractor()
    return NounExtractor(_make_tagger(name), rule, keep_numbers)


def _make_tagger(name: str) -> NounTagger:
    if name == "rules":
        return RulesTagger()
    if name == "nltk":
        return NltkTagger()
    if name == "textblob":
        return TextBlobTagger()
    kind, colon, model = name.partition(":")
    if kind == "spacy":
        return SpacyTagger(model) if colon else SpacyTagger()
    near = suggest_nearest(name[:100], EXTRACTORS)
    raise ConfigError(f"label extractor {printable(name, 100)!r} is not known: {', '.join(EXTRACTORS)}.{near}")


def join_labels(labels: Sequence[str]) -> str:
    """Write labels as one text, as the field ``labels`` of a sample's json holds them."""
    return ", ".join(labels)


def split_labels(text: str | Sequence[str]) -> list[str]:
    """Read labels that are joined by commas, in one text or several: each once, blanks around them left out."""
    texts = [text] if isinstance(text, str) else text
    labels = (" ".join(label.split()) for one in texts for label in one.split(","))
    return list(dict.fromkeys(label for label in labels if label))


def _clean(caption: str) -> str:
    """Write letters in one way: composed, lower case, straight quotes."""
    return unicodedata.normalize("NFC", caption).translate(_QUOTES).lower()


def _clean_as_public(caption: str) -> str:
    """Delete the noise words as letters wherever they stand, and then what the public filter does not keep."""
    text = caption.lower().replace("\n", " ")
    for word in NOISE_WORDS:
        text = text.replace(word, "")
    text = _PUBLIC_REFUSED.sub("", _PUBLIC_SPACES.sub(" ", text))
    return " ".join(text.split())
