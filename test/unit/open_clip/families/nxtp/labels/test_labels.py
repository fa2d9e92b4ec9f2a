import importlib.util
import time
from pathlib import Path

import pytest

from open_clip.errors import ConfigError, MissingDependency
from open_clip.families.nxtp.labels import join_labels, make_extractor, split_labels
from open_clip.families.nxtp.labels.extract import NounExtractor
from open_clip.families.nxtp.labels.nouns import Noun

TABLE = Path(__file__).resolve().parents[5] / "support" / "nxtp_captions.tsv"


def labelled_captions():
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    return [(caption, set(labels.split(", "))) for caption, labels in rows]


def test_labels_of_the_written_captions_are_right_and_complete():
    extract = make_extractor("rules").extract
    found = [(set(extract(caption)), labels) for caption, labels in labelled_captions()]
    right = sum(len(got & wanted) for got, wanted in found)
    precision, recall = right / sum(len(got) for got, _ in found), right / sum(len(wanted) for _, wanted in found)
    assert len(found) == 200
    assert precision > 0.99
    assert recall > 0.99


# What the words beside a word decide.
@pytest.mark.parametrize(
    "caption, labels",
    [
        ("A walk in the park", "walk, park"),
        ("People walk their dogs", "people, dog"),
        ("The jump of a horse", "jump, horse"),
        ("A cat jumps off a chair", "cat, chair"),
        ("A man and a woman ride bikes", "man, woman, bike"),
        ("A boy stands and watches the train", "boy, train"),
        ("Swings and slides at a playground", "swing, slide, playground"),
        ("A parking meter by a building", "parking, meter, building"),
        ("A man parking his car", "man, car"),
        ("A kid wants to play with an orange ball", "kid, ball"),
        ("She waters plants and he paints walls", "plant, wall"),
        ("The dog's bowl and the players' shoes", "dog, bowl, player, shoe"),
        ("The player's jumps, the children's slides", "player, jump, child, slide"),
        ("Two firemen, three policewomen and some specimens", "fireman, policewoman, specimen"),
        (
            "Knives, dishes, cherries, tomatoes, buses, houses, glasses",
            "knife, dish, cherry, tomato, bus, house, glass",
        ),
        ("A moving van, a fast-moving river", "van, river"),
        ("A piñata at a fiesta", "piñata, fiesta"),
    ],
)
def test_words_are_told_by_the_words_beside_them(caption, labels):
    assert join_labels(make_extractor("rules").extract(caption)) == labels


def test_labels_come_once_in_the_order_of_their_first_occurrence_after_their_singulars_are_taken():
    extract = make_extractor().extract
    assert extract("Men and a man beside a dog; two dogs, the man's cat.") == ["man", "dog", "cat"]
    assert extract(["A cat on a sofa", "A sofa with cats and a pillow"]) == ["cat", "sofa", "pillow"]


# N13: the letters of the noise words, wherever they stand, against the words.
@pytest.mark.parametrize(
    "caption, fixed, public",
    [
        ("a laptop on a desk", ["laptop", "desk"], ["lap", "desk"]),
        ("stockings and a sunday hat", ["stocking", "sunday", "hat"], ["ing", "sun", "hat"]),
        ("a birthday cake on top of a table", ["birthday", "cake", "table"], ["birth", "cake", "table"]),
        ("a waterfront with an imagery screen", ["waterfront", "imagery", "screen"], ["water", "screen"]),
        ("two persons, one person and images of a dog", ["dog"], ["dog"]),
        ("mountaintop with a stockpile", ["mountaintop", "stockpile"], ["mountain", "pile"]),
        ("a cat,dog&bird", ["cat", "dog", "bird"], ["cat", "dog", "bird"]),
        ("a façade", ["façade"], ["faade"]),
        ("days", [], []),
    ],
)
def test_the_public_rule_deletes_letters_and_the_fixed_one_whole_words(caption, fixed, public):
    assert make_extractor("rules", "fixed").extract(caption) == fixed
    assert make_extractor("rules", "public").extract(caption) == public


def test_words_with_digits_are_labels_only_where_they_are_asked_for():
    assert make_extractor().extract("an airbus 747, an mp3 player") == ["airbus", "player"]
    assert make_extractor(keep_numbers=True).extract("an mp3 player") == ["mp3", "player"]


@pytest.mark.parametrize(
    "caption", ["", " ", "red and very big", "!!! ... 12", [], ["", "walking quickly"], "\0\ufffd\n"]
)
def test_captions_without_nouns_give_no_label(caption):
    assert make_extractor().extract(caption) == []


class Blanks:
    """A tagger that takes all between blanks for a noun."""

    def nouns(self, text):
        return [Noun(word, word) for word in text.split()]


def test_no_label_holds_a_comma_or_a_mark_at_its_ends_whatever_a_tagger_finds():
    extract = NounExtractor(Blanks()).extract
    assert extract("dog,cat t-shirt -bear <b>fox</b> owl_hen wolf. lion's ||| 'tis") == ["t-shirt", "lion's"]
    assert make_extractor().extract("a dog,cat;bird|fox <b>bear</b> “wolf”") == [
        "dog",
        "cat",
        "bird",
        "fox",
        "bear",
        "wolf",
    ]


@pytest.mark.parametrize("part", ["a dog runs and ", "ab'-", "a'", "-", "a.b", "wedding", "s", "\n", "é"])
def test_a_caption_of_ten_thousand_characters_takes_no_time(part):
    extract = make_extractor().extract
    caption = (part * 10_000)[:10_000]
    start = time.perf_counter()
    extract(caption)
    assert time.perf_counter() - start < 2


def test_ready_labels_are_split_at_commas_and_come_back_as_they_were():
    assert make_extractor("list").extract("great white  shark, Cock,,cock ,hen ") == [
        "great white shark",
        "Cock",
        "cock",
        "hen",
    ]
    assert split_labels(join_labels(["a b", "c"])) == ["a b", "c"]
    assert split_labels(["a, b", "b,c"]) == ["a", "b", "c"]


def test_an_unknown_extractor_or_rule_is_answered_with_what_there_is():
    with pytest.raises(
        ConfigError, match=r"'spaci' is not known: rules, nltk, spacy, textblob, list. Did you mean spacy"
    ):
        make_extractor("spaci")
    with pytest.raises(ConfigError, match="'pubic' is not known: it is fixed or public"):
        make_extractor("rules", "pubic")


@pytest.mark.parametrize("name, advice", [("nltk", "nltk"), ("spacy", "spacy"), ("textblob", "textblob lemminflect")])
def test_a_missing_package_is_named_in_one_line_with_what_to_do(name, advice):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingDependency) as error:
        make_extractor(name)
    assert f"pip install {advice}`" in str(error.value)
    assert "\n" not in str(error.value)


def test_all_data_that_nltk_lacks_is_named_in_one_line(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk", reason="nltk is not installed")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(MissingDependency) as error:
        make_extractor("nltk")
    assert "nltk.downloader punkt_tab averaged_perceptron_tagger_eng wordnet`" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_pipeline_of_spacys_is_named_in_one_line():
    pytest.importorskip("spacy", reason="spacy is not installed")
    with pytest.raises(MissingDependency, match="pipeline no_such_pipeline cannot be loaded") as error:
        make_extractor("spacy:no_such_pipeline")
    assert "\n" not in str(error.value)


def test_textblob_finds_the_same_labels_behind_the_same_interface():
    pytest.importorskip("textblob", reason="textblob is not installed")
    pytest.importorskip("lemminflect", reason="lemminflect is not installed")
    extract = make_extractor("textblob").extract
    assert extract("Two men and a man sit on a bench in front of a laptop") == ["man", "bench", "laptop"]
    assert make_extractor("textblob", "public").extract("a laptop on a bench") == ["lap", "bench"]
