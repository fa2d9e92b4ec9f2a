"""From the forms of English words to their base: plurals of nouns, and the forms of verbs."""

import re
from typing import Final

from open_clip.families.nxtp.labels import lexicon

_SIBILANT: Final = re.compile(r"(?:s|x|z|ch|sh)es$")
# house, nose, size, slice, orange: their e belongs to the word.
_ENDS_IN_E: Final = re.compile(r"(?:[aeiou]s|rs|ns|ps|[aeiou]z|[aeiou]ach|uch)es$")
_DOUBLED: Final = re.compile(r"([b-df-hj-np-tv-z])\1$")
_SHORT: Final = 3


def singular(word: str) -> str:
    """Return the singular of a lower-case noun; of a word that is none, something of no meaning."""
    known = lexicon.IRREGULAR_PLURALS.get(word)
    if known is not None:
        return known
    if word.endswith("men") and len(word) > len("women"):
        return f"{word[:-2]}an"  # firemen, policewomen; not "specimen", whose plural is in -s
    if word in lexicon.SAME_IN_PLURAL or not word.endswith("s") or len(word) <= _SHORT:
        return word
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y" if len(word) > len("ties") else word[:-1]
    if word.endswith("oes"):
        return word[:-2]
    if _SIBILANT.search(word):
        return word[:-1] if _ENDS_IN_E.search(word) and word[:-2] not in lexicon.SAME_IN_PLURAL else word[:-2]
    return word[:-1]


def verb_bases(word: str) -> frozenset[str]:
    """Return what a lower-case word could be a form of, itself included: carried gives carry among others."""
    bases = {word}
    if word.endswith("ies") or word.endswith("ied"):
        bases.add(f"{word[:-3]}y")
    if word.endswith("s") and not word.endswith("ss"):
        bases.update((word[:-1], word[:-2]) if word.endswith("es") else (word[:-1],))
    for ending in ("ed", "ing"):
        if word.endswith(ending):
            stem = word[: -len(ending)]
            bases.update((stem, f"{stem}e"))
            if _DOUBLED.search(stem):
                bases.add(stem[:-1])
    return frozenset(bases)
