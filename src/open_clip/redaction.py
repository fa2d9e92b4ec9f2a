"""Leave secrets out of what is written and shown: passwords, tokens and signatures in addresses and commands."""

import re

HIDDEN = "__hidden__"

# Names of values that are secret, whatever stands around them: X-Amz-Signature, OSSAccessKeyId, HF_TOKEN, api-key.
# Every repetition below has a limit, or a long hostile text would cost quadratic time.
_SECRET_NAME = (
    r"(?<![\w.-])[\w.-]{0,40}(?:token|secret|passw(?:or)?d|passphrase|signature|credential|api[_-]?key|access[_-]?key"
    r"|account[_-]?key|private[_-]?key|bearer)[\w.-]{0,40}"
)
_HEADER = rf"(?:(?<![\w.-])(?:proxy-)?authorization|(?<![\w.-])cookie|(?<![\w.-])x-auth[\w-]{{0,40}}|{_SECRET_NAME})"
# One word of a command, quoted or with blanks that a backslash keeps in it.
_WORD = rf"(?!['\"]?{HIDDEN})(?:'[^'\r\n]+'|\"[^\"\r\n]+\"|(?:\\.|[^\s'\"\\])+)"
_Rule = tuple[re.Pattern[str], str]


def _rule(pattern: str, replacement: str) -> _Rule:
    return re.compile(pattern, re.IGNORECASE), replacement


_RULES: tuple[_Rule, ...] = (
    # user:password@, where a port's number is no password; keys of S3 hold slashes.
    _rule(r"(://)[^\s/:@?#'\"]{0,200}:(?!\d+(?:[/?#]|$))[^\s@'\"]{0,500}@", rf"\1{HIDDEN}@"),
    # A token in the user's place. Other kinds of addresses have names there that are no secret.
    _rule(r"(https?://)[^\s/:@?#'\"]{1,500}@", rf"\1{HIDDEN}@"),
    _rule(rf"([?&;](?:{_SECRET_NAME}|sig|key|pwd|auth|jwt)=)[^\s&;'\"<>,)\]}}]+", rf"\1{HIDDEN}"),
)
_COMMAND_RULES: tuple[_Rule, ...] = (
    # A header in quotes goes on to the quote that ends it.
    _rule(rf"((['\"]){_HEADER}\s{{0,4}}:\s{{0,4}})(?:(?!\2)[^\r\n])+", rf"\1{HIDDEN}"),
    _rule(rf"({_HEADER}:){_WORD}", rf"\1{HIDDEN}"),
    _rule(rf"((?<![?&])(?:{_SECRET_NAME}|\b(?:sig|pwd))=){_WORD}", rf"\1{HIDDEN}"),
    _rule(rf"(\s(?=-)(?:{_SECRET_NAME}|--?pwd)\s{{1,4}}){_WORD}", rf"\1{HIDDEN}"),
    _rule(rf"(\s(?:-u\s{{0,4}}|--(?:proxy-)?user[\s=]\s{{0,4}}))(?=[^\s]{{0,200}}:){_WORD}", rf"\1{HIDDEN}"),
    _rule(rf"(\bsshpass\s{{1,4}}-p\s{{0,4}}){_WORD}", rf"\1{HIDDEN}"),
)


def redact(text: str) -> str:
    """Replace secrets in addresses and ``pipe:`` commands by ``__hidden__``; other text comes back as it is."""
    is_command = "pipe:" in text
    # What a brace or a separator cut off an address has its query alone.
    if "://" not in text and "?" not in text and not is_command:
        return text
    for pattern, replacement in _RULES + (_COMMAND_RULES if is_command else ()):
        text = pattern.sub(replacement, text)
    return text


def is_redacted(value: object) -> bool:
    """Tell whether a setting, or one in a list or mapping, holds the place of a secret that was left out."""
    if isinstance(value, dict):
        return any(is_redacted(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(is_redacted(one) for one in value)
    return isinstance(value, str) and HIDDEN in value
