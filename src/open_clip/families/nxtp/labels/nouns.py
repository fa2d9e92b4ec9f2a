"""What every way of finding nouns gives."""

from typing import NamedTuple, Protocol


class Noun(NamedTuple):
    """A noun as it stands in a text, and its singular."""

    word: str
    lemma: str


class NounTagger(Protocol):
    """Finds the common nouns of a text."""

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns of a lower-case text in their order, repeated ones too."""
        ...
