import html
import random

import ftfy
import pytest

from open_clip.errors import ConfigError
from open_clip.tokenizer import basic_clean, canonicalize_text, get_clean_fn, whitespace_clean
from open_clip.tokenizer.cleaning import clean_canonicalize, clean_lower, clean_whitespace


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("plain text", "plain text"),
        ("  ends  ", "ends"),
        ("cafÃ©", "café"),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("“curly” it’s", '"curly" it\'s'),
        ("ﬁne", "fine"),
        ("\ud800 alone", "\ufffd alone"),
        ("\x1b[31mred", "red"),
    ],
)
def test_basic_clean_repairs_and_unescapes(text, cleaned):
    assert basic_clean(text) == cleaned


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("&#" + "9" * 5000 + ";", "\ufffd"),
        ("&#" + "9" * 5000, "\ufffd"),
        ("&#" + "0" * 5000 + "65;b", "Ab"),
        ("&#" + "0" * 5000 + ";", "\ufffd"),
        ("&amp;#" + "8" * 100_000 + ";", "\ufffd"),
        ("&#x" + "f" * 5000 + ";", "\ufffd"),
    ],
)
def test_a_number_of_any_length_is_read_as_html_reads_it(text, cleaned):
    assert basic_clean(text) == cleaned


def test_the_short_way_for_printable_ascii_changes_nothing():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(0, 50)))
        assert basic_clean(text) == html.unescape(html.unescape(ftfy.fix_text(text))).strip(), text


def test_whitespace_clean_folds_every_kind_of_space():
    assert whitespace_clean("\t a\u00a0\u3000b\r\n\x0bc ") == "a b c"


def test_canonicalize_text_lowers_and_deletes_punctuation():
    assert canonicalize_text("A Photo_of a (big)  Cat!") == "a photo of a big cat"


def test_canonicalize_text_can_keep_one_string_exactly():
    assert canonicalize_text("A {} of {x}.", keep_punctuation_exact_string="{}") == "a {} of x"


def test_canonicalize_text_can_be_told_what_to_delete():
    assert canonicalize_text("a-b.c", trans_punctuation=str.maketrans("", "", "-")) == "ab.c"


@pytest.mark.parametrize(
    "mode, fn, cleaned",
    [
        ("lower", clean_lower, "it's <b>, ok"),
        ("whitespace", clean_whitespace, "It's <b>, OK"),
        ("canonicalize", clean_canonicalize, "its b ok"),
    ],
)
def test_get_clean_fn_returns_the_function_of_a_mode(mode, fn, cleaned):
    assert get_clean_fn(mode) is fn
    assert fn(" It&#39;s  &lt;b&gt;,\tOK ") == cleaned


def test_get_clean_fn_lists_the_modes_when_asked_for_another():
    with pytest.raises(ConfigError, match="canonicalize, lower, whitespace"):
        get_clean_fn("upper")
