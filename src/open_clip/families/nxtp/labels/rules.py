"""The tagger that needs no other package: words by our own lexicon, their suffixes, and the words around them.

A caption is short and tells what is seen, so a word that is in no list is a noun; what has to be found are the others.
Words that are nouns or verbs are told by the words beside them: "a walk" against "people walk", "the jump" against
"a cat jumps".
"""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

from open_clip.families.nxtp.labels import lexicon
from open_clip.families.nxtp.labels.lemmas import singular, verb_bases
from open_clip.families.nxtp.labels.nouns import Noun

_TOKEN: Final = re.compile(r"[^\W_]+(?:[-'.][^\W_]+)*'?|\S")
_STOPS: Final = frozenset(".!?;:,")
_ADJECTIVE_SUFFIX: Final = re.compile(r".{2,}(?:ous|ful|ish|less|able|ible|ical|ive|like|iest|est|wards?)$")
# Shorter words in -ing and -ly (ring, fly) have no such suffix.
_LONGER_THAN: Final = 4
_SAME_IN_PLURAL: Final = frozenset(
    ("people", "sheep", "fish", "deer", "cattle", "police", "shrimp", "couple", "group", "crowd")
)


class _Kind(Enum):
    """What a word is: by itself, and then in its place."""

    DETERMINER = auto()
    PREPOSITION = auto()
    PARTICLE = auto()  # up, as in "line up"
    CONJUNCTION = auto()
    PRONOUN = auto()
    AUXILIARY = auto()
    ADVERB = auto()
    ADJECTIVE = auto()
    VERB = auto()
    PARTICIPLE = auto()  # in -ing
    NOUN = auto()
    STOP = auto()
    # Decided by the words beside it.
    NOUN_OR_ADJECTIVE = auto()
    NOUN_OR_VERB = auto()
    NOUN_SELDOM_VERB = auto()
    NOUN_OR_PARTICIPLE = auto()


_K = _Kind
# A word of several lists is of the first.
_LISTS: Final = (
    (frozenset(("up",)), _K.PARTICLE),
    (lexicon.PRONOUNS, _K.PRONOUN),
    (lexicon.DETERMINERS, _K.DETERMINER),
    (lexicon.PREPOSITIONS, _K.PREPOSITION),
    (lexicon.CONJUNCTIONS, _K.CONJUNCTION),
    (lexicon.AUXILIARIES, _K.AUXILIARY),
    (lexicon.NOUN_OR_ADJECTIVE, _K.NOUN_OR_ADJECTIVE),
    (lexicon.KINDS_IN_ING, _K.NOUN_OR_PARTICIPLE),
    (lexicon.NOUN_OR_VERB, _K.NOUN_OR_VERB),
    (lexicon.NOUNS_WITH_OTHER_SUFFIXES, _K.NOUN),
    (lexicon.ADJECTIVES, _K.ADJECTIVE),
    (lexicon.ADVERBS, _K.ADVERB),
)
_KIND_OF: Final = {word: kind for words, kind in reversed(_LISTS) for word in words}
_BEFORE_NOUN: Final = frozenset(
    (_K.STOP, _K.AUXILIARY, _K.DETERMINER, _K.ADJECTIVE, _K.PREPOSITION, _K.PARTICLE, _K.PARTICIPLE)
)
_AFTER_VERB: Final = frozenset((_K.DETERMINER, _K.PREPOSITION, _K.PARTICLE, _K.PRONOUN, _K.ADVERB))
_AFTER_SELDOM_VERB: Final = frozenset((_K.DETERMINER, _K.PRONOUN, _K.PARTICLE))
_AFTER_GERUND: Final = frozenset((_K.STOP, _K.CONJUNCTION, _K.PREPOSITION))
_NOUNS: Final = frozenset((_K.NOUN, _K.NOUN_SELDOM_VERB))
_NOUN_PHRASE: Final = _NOUNS | {_K.NOUN_OR_ADJECTIVE, _K.ADJECTIVE, _K.NOUN_OR_PARTICIPLE, _K.NOUN_OR_VERB}


class _Word(NamedTuple):
    """A word without the ending of its possessive, and what it is by itself."""

    text: str
    is_possessive: bool
    kind: _Kind


class RulesTagger:
    """Finds nouns by rules; a text of any length takes time by its length alone."""

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns of a lower-case text in their order."""
        words = [_read(token) for token in _TOKEN.findall(text)]
        found: list[Noun] = []
        clause = _Clause()
        for place, word in enumerate(words):
            after = words[place + 1].kind if place + 1 < len(words) else _K.STOP
            kind = clause.decide(word, after)
            if kind is _K.NOUN:
                found.append(Noun(word.text, singular(word.text)))
            clause.step(word, kind)
        return found


def _read(token: str) -> _Word:
    """Take the possessive off (man's, players') and look the word up."""
    text = token[:-2] if token.endswith("'s") else token.rstrip("'")
    return _Word(text, text != token, _classify(text))


def _classify(word: str) -> _Kind:
    """Say what a word is by itself."""
    known = _KIND_OF.get(word)
    if known is not None:
        return known
    if not word or not word[0].isalnum():
        return _K.STOP if word in _STOPS else _K.CONJUNCTION
    if word[0].isdigit():
        return _K.DETERMINER
    is_long = len(word) > _LONGER_THAN
    if word.endswith("ing") and is_long:
        return _K.PARTICIPLE
    bases = verb_bases(word)
    if word.endswith("ed") and len(word) >= _LONGER_THAN:
        return _K.VERB if bases & _VERBS else _K.ADJECTIVE
    if bases & lexicon.NOUN_OR_VERB:
        return _K.NOUN_OR_VERB
    if bases & lexicon.VERBS:
        return _K.VERB
    if bases & lexicon.NOUN_SELDOM_VERB:
        return _K.NOUN_SELDOM_VERB
    if word.endswith("ly") and is_long:
        return _K.ADVERB
    is_adjective = _ADJECTIVE_SUFFIX.match(word) and singular(word) not in lexicon.NOUNS_WITH_OTHER_SUFFIXES
    return _K.ADJECTIVE if is_adjective else _K.NOUN


_VERBS: Final = lexicon.VERBS | lexicon.NOUN_OR_VERB | lexicon.NOUN_SELDOM_VERB


class _Clause:
    """What was read of a clause: the word before, whether it can be many, and the form of the clause's verb."""

    def __init__(self) -> None:
        self._before, self._word = _K.STOP, ""
        self._is_plural = self._is_joined = False
        # "s" as in "he rides" or "base" as in "they ride"; empty until the verb has come.
        self._verb_form = ""

    def decide(self, word: _Word, after: _Kind) -> _Kind:
        """Say what a word is in its place."""
        if word.kind is _K.NOUN_OR_ADJECTIVE:
            return _K.ADJECTIVE if self._before is not _K.NOUN and after in _NOUN_PHRASE else _K.NOUN
        if word.kind is _K.NOUN_OR_PARTICIPLE:
            return self._decide_kind(after)
        if word.kind is _K.PARTICIPLE:
            is_gerund = self._before in (_K.DETERMINER, _K.ADJECTIVE) and after in _AFTER_GERUND
            return _K.NOUN if is_gerund else _K.PARTICIPLE
        if word.kind is _K.NOUN_OR_VERB:
            return _K.VERB if self._is_verb(_form(word.text), after) else _K.NOUN
        if word.kind is _K.NOUN_SELDOM_VERB:
            # Nothing but a verb stands between a noun and the article of another.
            is_verb = self._before is _K.NOUN and after in _AFTER_SELDOM_VERB
            return _K.VERB if is_verb or self._before is _K.PRONOUN or self._word == "to" else _K.NOUN
        if word.kind is _K.VERB and self._before is _K.DETERMINER and after in (_K.STOP, _K.PREPOSITION):
            return _K.ADJECTIVE if word.text.endswith("ed") else _K.NOUN
        return word.kind

    def _decide_kind(self, after: _Kind) -> _Kind:
        """Tell "a parking meter" and "no parking." from "a man parking his car"."""
        if after is _K.STOP:
            return _K.PARTICIPLE if self._before in (_K.NOUN, _K.AUXILIARY) else _K.NOUN
        return _K.NOUN if self._before is not _K.AUXILIARY and after in _NOUNS else _K.PARTICIPLE

    def _is_verb(self, form: str, after: _Kind) -> bool:
        """Tell whether a word is a verb that could be a noun as well."""
        if self._before is _K.PRONOUN or (self._word == "to" and form == "base"):
            return True
        if self._before in _BEFORE_NOUN:
            return False
        if self._before is _K.CONJUNCTION:
            # "stands and watches the game", but "swings and slides".
            follows = _AFTER_VERB | {_K.NOUN} if form == "base" else _AFTER_VERB
            return self._verb_form == form and after in follows
        is_many = self._is_plural or (self._is_joined and not self._verb_form)
        return self._before is _K.NOUN and (is_many or form == "s")

    def step(self, word: _Word, kind: _Kind) -> None:
        """Go on behind a word."""
        if kind is _K.ADVERB:
            return
        if kind is _K.VERB and not word.text.endswith("ed"):
            self._verb_form = _form(word.text)
        elif kind is _K.STOP and word.text != ",":
            self._verb_form = ""
        if kind is _K.CONJUNCTION:
            self._is_joined = self._before is _K.NOUN
        elif kind not in (_K.NOUN, _K.DETERMINER, _K.ADJECTIVE):
            self._is_joined = False
        is_noun = kind is _K.NOUN
        self._is_plural = is_noun and (_form(word.text) == "s" or word.text in _SAME_IN_PLURAL)
        self._before = _K.DETERMINER if is_noun and word.is_possessive else kind
        self._word = word.text


def _form(word: str) -> str:
    return "base" if singular(word) == word else "s"
