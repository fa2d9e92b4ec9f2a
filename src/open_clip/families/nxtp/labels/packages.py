"""Taggers of other packages. Each is looked for when it is asked for, and what it lacks is named in one line."""

import importlib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Final

from open_clip.errors import MissingDependency, first_line, printable
from open_clip.families.nxtp.labels.nouns import Noun

_COMMON_NOUNS: Final = frozenset(("NN", "NNS"))
_NLTK_RESOURCE: Final = re.compile(r"nltk\.download\('([\w-]+)'\)")
_SPACY_MODEL: Final = "en_core_web_sm"


class NltkTagger:
    """NLTK's tokenizer, perceptron tagger and WordNet lemmas: what the published models were trained with.

    Raises:
        MissingDependency: the package or some of its data files are missing; names all of them.
    """

    def __init__(self) -> None:
        nltk = _import("nltk", "nltk")
        self._tokenize, self._tag = nltk.word_tokenize, nltk.pos_tag
        self._lemmatize = _import("nltk.stem", "nltk").WordNetLemmatizer().lemmatize
        # Releases of NLTK differ in the names of their data, so NLTK itself is asked, all parts before any complaint.
        parts = (lambda: self._tokenize("a dog"), lambda: self._tag(["dog"]), lambda: self._lemmatize("dogs"))
        missing = [name for part in parts if (name := _missing_data(part)) is not None]
        if missing:
            raise MissingDependency(
                f"label extractor nltk: its data {', '.join(missing)} is not on this machine. Run `python -m "
                f"nltk.downloader {' '.join(missing)}` where there is a network and name that folder by NLTK_DATA, or "
                "take the extractor rules, which needs none."
            )

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns of a lower-case text in their order."""
        tagged = self._tag(self._tokenize(text))
        return [Noun(word, self._lemmatize(word)) for word, tag in tagged if tag in _COMMON_NOUNS]


class SpacyTagger:
    """A pipeline of spaCy's.

    Args:
        model: name of an installed pipeline, or the folder of one.

    Raises:
        MissingDependency: the package or the pipeline is missing.
    """

    def __init__(self, model: str = _SPACY_MODEL) -> None:
        spacy = _import("spacy", "spacy")
        try:
            self._pipeline = spacy.load(model, exclude=["parser", "ner"])
        except OSError as error:
            raise MissingDependency(
                f"label extractor spacy: the pipeline {printable(model, 200)} cannot be loaded ({first_line(error)}). "
                f"Run `python -m spacy download {_SPACY_MODEL}`, or name an installed one as spacy:NAME."
            ) from None

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns of a lower-case text in their order."""
        return [Noun(word.text, word.lemma_) for word in self._pipeline(text) if word.tag_ in _COMMON_NOUNS]


class TextBlobTagger:
    """TextBlob's pattern tagger with LemmInflect's lemmas; the word lists of both come in their packages.

    Raises:
        MissingDependency: one of the packages is missing.
    """

    def __init__(self) -> None:
        self._tag = _import("textblob.taggers", "textblob").PatternTagger().tag
        self._lemmas = _import("lemminflect", "textblob").getLemma

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns of a lower-case text in their order."""
        nouns = [word for word, tag in self._tag(text) if tag in _COMMON_NOUNS]
        return [Noun(word, next(iter(self._lemmas(word, upos="NOUN")), word)) for word in nouns]


_PACKAGES: Final = {"nltk": "nltk", "spacy": "spacy", "textblob": "textblob lemminflect"}


def _import(module: str, extractor: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"label extractor {extractor} needs a package that cannot be imported ({first_line(error)}): run `pip "
            f"install {_PACKAGES[extractor]}`, or take the extractor rules, which needs none."
        ) from error


def _missing_data(part: Callable[[], object]) -> str | None:
    """Return the name of the data set that a part of NLTK lacks; None where it works."""
    try:
        part()
    except LookupError as error:
        named = _NLTK_RESOURCE.search(str(error))
        return named[1] if named is not None else first_line(error)
    # A file that is missing inside of a data set, or is cut short.
    except (OSError, ValueError) as error:
        raise MissingDependency(
            f"label extractor nltk: its data cannot be read ({first_line(error)}). Fetch that data set anew with "
            "`python -m nltk.downloader`, or take the extractor rules, which needs none."
        ) from error
    return None
