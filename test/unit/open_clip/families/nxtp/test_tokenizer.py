"""Labels become the ids that the whole text would have, and what cannot be one token is refused by name."""

import pickle
from dataclasses import replace

import pytest

from extras import needs_hf, needs_sentencepiece
from label_words import WordPieces, write_label_tokenizer
from open_clip.errors import CheckpointError, ConfigError, DataError
from open_clip.families.nxtp.config import LabelCfg, make_label_cfg
from open_clip.families.nxtp.tokenizer import LabelTokenizer

CFG = LabelCfg()


class TestWords:
    @pytest.fixture
    def tokenizer(self):
        return LabelTokenizer(WordPieces(["cat", "dog"]), CFG)

    def test_added_tokens_have_real_rows_behind_the_files(self, tokenizer):
        size = tokenizer.vocab_size
        assert (tokenizer.image_id, tokenizer.empty_id) == (size, size + 1)
        turned = LabelTokenizer(WordPieces(), replace(CFG, added_tokens=["<|empty|>", "<|new|>", "<|image|>"]))
        assert (turned.empty_id, turned.image_id) == (turned.vocab_size, turned.vocab_size + 2)
        assert turned.name(turned.vocab_size + 1) == "<|new|>"

    def test_ids_of_ends_and_of_added_tokens_leave_no_text(self, tokenizer):
        ids = [tokenizer.image_id, tokenizer.bos_id, *tokenizer.encode_label("cat"), tokenizer.delimiter_id]
        assert tokenizer.decode([*ids, tokenizer.eos_id, tokenizer.empty_id]) == "cat,"
        assert [tokenizer.name(token) for token in ids] == ["<|image|>", "<s>", " cat", ","]

    @pytest.mark.parametrize("label, what", [("a, b", "holds the delimiter ','"), (" ", "is empty")])
    def test_a_label_that_is_none_is_refused(self, tokenizer, label, what):
        with pytest.raises(DataError, match=what):
            tokenizer.encode_label(label)

    @pytest.mark.parametrize("name", ["prompt", "prompts"])
    def test_an_answer_word_of_several_tokens_is_refused_with_its_pieces(self, name):
        prompt = "The objects in the image consist"
        with pytest.raises(ConfigError, match=r"ends in 'consist', which is not one token .*' c', 'o', 'n'.* 't'"):
            LabelTokenizer(WordPieces(), replace(CFG, **{name: prompt if name == "prompt" else [CFG.prompt, prompt]}))

    @pytest.mark.parametrize("delimiter", ["ab", ";"])
    def test_a_delimiter_that_is_not_one_token_is_refused_with_its_pieces(self, delimiter):
        with pytest.raises(ConfigError, match=rf"delimiter '{delimiter}' is not one token.* it gives "):
            LabelTokenizer(WordPieces(), replace(CFG, delimiter=delimiter))


@pytest.fixture(scope="module")
def llama_path(tmp_path_factory):
    return write_label_tokenizer(tmp_path_factory.mktemp("llama"), 640, byte_fallback=True)


class TestSentencePiece:
    pytestmark = needs_sentencepiece

    @pytest.mark.parametrize("labels", [["cat", "dog"], ["traffic light", "naïve café", "日本", "x-ray 12"]])
    def test_labels_have_the_ids_of_the_whole_text(self, llama_path, labels):
        import sentencepiece

        tokenizer = LabelTokenizer.open(llama_path, CFG, 640)
        built = tokenizer.encode(CFG.prompt)
        for label in labels:
            built += [*tokenizer.encode_label(label), tokenizer.delimiter_id]
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(llama_path))
        assert built == theirs.encode(f"{CFG.prompt} {', '.join(labels)},")
        assert tokenizer.decode(built).removeprefix(CFG.prompt).strip(" ,").split(", ") == labels

    def test_the_delimiter_is_the_token_behind_a_word(self, llama_path):
        tokenizer = LabelTokenizer.open(llama_path, CFG)
        assert tokenizer.name(tokenizer.delimiter_id) == ","
        assert tokenizer.encode(",") != [tokenizer.delimiter_id], "alone it would be another"
        assert tokenizer.name(tokenizer.answer_id(CFG.prompt)) == "▁are"

    def test_a_tokenizer_travels_to_a_worker(self, llama_path):
        tokenizer = LabelTokenizer.open(llama_path, CFG, context_length=64)
        twin = pickle.loads(pickle.dumps(tokenizer))
        assert twin.encode_label("traffic light") == tokenizer.encode_label("traffic light")
        assert (twin.delimiter_id, twin.context_length) == (tokenizer.delimiter_id, 64)

    def test_a_file_of_other_size_or_kind_is_refused_by_its_path(self, llama_path, tmp_path):
        with pytest.raises(ConfigError, match=r"tokenizer.model has 640 tokens .*vocab_size is 32000"):
            LabelTokenizer.open(llama_path, CFG, 32000)
        damaged = tmp_path / "damaged.model"
        damaged.write_bytes(b"\x00" * 100)
        with pytest.raises(CheckpointError, match=r"damaged\.model: .*Fetch"):
            LabelTokenizer.open(damaged, CFG)
        with pytest.raises(ConfigError, match=r"tokenizer\.model: label_cfg\.delimiter 'zq' is not one token"):
            LabelTokenizer.open(llama_path, replace(CFG, delimiter="zq"))

    def test_a_model_without_ends_is_refused(self, tmp_path):
        path = write_label_tokenizer(tmp_path, bos_id=-1)
        with pytest.raises(CheckpointError, match="no piece for the beginning or the end"):
            LabelTokenizer.open(path, CFG)


class TestJson:
    pytestmark = needs_hf

    @pytest.mark.parametrize("prepend", ["always", "never"])
    def test_labels_have_the_ids_of_the_whole_text(self, tmp_path, prepend):
        import tokenizers

        made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Metaspace(prepend_scheme=prepend),
                tokenizers.pre_tokenizers.Punctuation(),
            ]
        )
        made.decoder = tokenizers.decoders.Metaspace(prepend_scheme=prepend)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=300, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"]
        )
        made.train_from_iterator([f"{prompt} cat, dog," for prompt in CFG.prompts] * 5, trainer)
        path = tmp_path / "tokenizer.json"
        made.save(str(path))
        tokenizer = LabelTokenizer.open(path, CFG)
        built = tokenizer.encode(CFG.prompt)
        for label in ("cat", "god"):
            built += [*tokenizer.encode_label(label), tokenizer.delimiter_id]
        assert built == made.encode(f"{CFG.prompt} cat, god,", add_special_tokens=False).ids
        assert tokenizer.decode(built[-3:]).endswith("god,") or tokenizer.decode(tokenizer.encode_label("god")) == "god"


def test_a_missing_file_is_told_with_the_path_expected(tmp_path):
    with pytest.raises(CheckpointError, match=r"llama/tokenizer\.model: .*No such file.*Give the path") as caught:
        LabelTokenizer.open(tmp_path / "llama/tokenizer.model", CFG)
    assert caught.value.exit_status == 4


@pytest.mark.parametrize(
    "values, message",
    [
        ({"pronpt": "x"}, "label_cfg has no field 'pronpt'. Did you mean prompt"),
        ({"prompt": 3}, "label_cfg.prompt is 3; it must be a text"),
        ({"prompts": []}, "label_cfg.prompts is"),
        ({"prompts": ["a are", 3]}, "must be a list of texts"),
        ({"prompts": "The image are"}, "must be a list of texts"),
        ({"added_tokens": ["<|image|>"]}, r"added_tokens has no <\|empty\|>"),
        ({"added_tokens": ["<|image|>", "<|empty|>", "<|image|>"]}, "holds a text twice"),
        ({"mask_mode": "open"}, "mask_mode is 'open'; it can be closed or public"),
        ({"delimiter": " "}, "label_cfg.delimiter is empty"),
    ],
)
def test_a_wrong_section_is_refused_by_its_field(values, message):
    with pytest.raises(ConfigError, match=message):
        make_label_cfg(values)


def test_the_defaults_are_ten_prompts_that_end_in_the_answer_word():
    for prompts, word in ((CFG.prompts, "are"), (CFG.caption_prompts, "that")):
        assert len(set(prompts)) == 10
        assert all(prompt.split()[-1] == word for prompt in prompts)
