"""The command that names images: from files of a run and from a model folder, text and JSON, broken images."""

import io
import json
import re

import pytest
import torch
from PIL import Image

import open_clip
from extras import needs_sentencepiece
from infer_labels import Namer, infer, main, make_parser, open_namer
from label_words import make_label_tokenizer, tiny_label_model, write_label_tokenizer
from open_clip.checkpoint import CONFIG_ENTRY, write_safetensors
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from open_clip.errors import DataError
from open_clip.factory.description import describe_model
from open_clip.families.nxtp.decoding import DecodingOptions, predict_labels
from open_clip.transform import PreprocessCfg, image_transform_v2
from sample_images import make_image

TOKENIZER = make_label_tokenizer("cat", "dog")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Write three images, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    make_image(40, 60).save(folder / "a.png")
    make_image(64, 32).save(folder / "sub/b.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    return folder


@pytest.fixture(scope="module")
def namer():
    transform = image_transform_v2(PreprocessCfg(size=(32, 32)), is_train=False)
    return Namer(tiny_label_model(TOKENIZER), TOKENIZER, transform, torch.device("cpu"))


@pytest.fixture
def infer_images(namer, capsys):
    """Run the command behind the opening of its checkpoint."""

    def run(*words):
        status = infer(namer, make_parser().parse_args(["--checkpoint", "none", "--topk", "3", *words]))
        return status, *capsys.readouterr()

    return run


def expected(namer, path, **options):
    return predict_labels(namer.model, namer.transform(Image.open(path))[None], namer.tokenizer, 3, **options)[0]


def test_the_labels_of_an_image_are_listed_with_their_probabilities(namer, images, infer_images):
    status, out, err = infer_images("--images", str(images / "a.png"))
    labels = expected(namer, images / "a.png")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == f"image: {images / 'a.png'}"
    assert lines[1] == "top-3 predictions:"
    marks = [" (not finished)" * (not label.is_finished) for label in labels]
    assert lines[2:-1] == [
        f"| prob: {label.prob:.5f} - {label.text}{mark}" for label, mark in zip(labels, marks, strict=True)
    ]
    assert re.fullmatch(r"inference time: \d+\.\d{3} s for 1 images on cpu", lines[-1])


def test_each_tokens_probability_explains_a_label(namer, images, infer_images):
    _, out, _ = infer_images("--images", str(images / "a.png"), "--explain")
    first = expected(namer, images / "a.png")[0]
    assert out.splitlines()[3] == "|   " + "  ".join(f"{token!r} {prob:.5f}" for token, prob in first.token_probs)


@pytest.mark.parametrize("batch_size", ["1", "16"])
def test_a_folder_goes_on_past_a_broken_image_and_ends_with_status_3(namer, images, infer_images, batch_size):
    status, out, err = infer_images("--images", str(images), "--json", "--explain", "--batch-size", batch_size)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 3
    assert [row["image"] for row in rows] == [str(images / "a.png"), str(images / "sub/b.jpg")]
    assert f"[Skipped] {images / 'broken.jpg'}: " in err
    assert "1 of 3 images could not be read" in err
    for row in rows:
        labels = expected(namer, row["image"])
        assert [(one["label"], one["is_finished"]) for one in row["labels"]] == [
            (label.text, label.is_finished) for label in labels
        ]
        for one, label in zip(row["labels"], labels, strict=True):
            assert one["prob"] == pytest.approx(label.prob, rel=1e-3)
            assert [token for token, _ in one["tokens"]] == [token for token, _ in label.token_probs]


def test_paths_come_from_standard_input(images, infer_images, monkeypatch):
    paths = [str(images / "sub/b.jpg"), str(images / "gone.jpg"), str(images / "a.png")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(paths) + "\n\n"))
    status, out, err = infer_images("--images", "-", "--json")
    assert [json.loads(line)["image"] for line in out.splitlines()] == [paths[0], paths[2]]
    assert status == 3
    assert f"[Skipped] {paths[1]}: " in err


def test_attention_maps_are_written_for_every_image(images, infer_images, tmp_path):
    maps = tmp_path / "new/maps"
    infer_images("--images", str(images), "--save-attention-maps", str(maps), "--batch-size", "1")
    assert sorted(path.name for path in maps.iterdir()) == ["000000-a", "000001-b"]
    assert len(list((maps / "000001-b").glob("layer0[01]-head0[0-3]-*.png"))) == 16


@pytest.mark.parametrize(
    "words, options",
    [
        (["--strategy", "greedy"], {"strategy": "greedy"}),
        (["--ranking", "ppl"], {"ranking": "ppl"}),
        (["--prompt", "The items in the image are"], {"prompt": "The items in the image are"}),
        (["--extra-rows", "40"], {"options": DecodingOptions(extra_rows=40)}),
    ],
)
def test_other_ways_of_writing_and_ordering_are_passed_on(namer, images, infer_images, words, options):
    flags = ["--images", str(images / "a.png"), "--json", "--explain"]
    found = [json.loads(infer_images(*flags, *more)[1]) for more in (words, [])]
    labels = expected(namer, images / "a.png", **options)
    assert [one["label"] for one in found[0]["labels"]] == [label.text for label in labels]
    assert found[0] != found[1]


def test_a_folder_without_images_is_refused(infer_images, tmp_path):
    with pytest.raises(DataError, match="no image is in this folder"):
        infer_images("--images", str(tmp_path))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Write a checkpoint as the trainer does."""
    folder = tmp_path_factory.mktemp("run")
    # Other sizes than those of any name that comes with the library.
    cfg = open_clip.get_model_config("nxtp-tiny")
    cfg["decoder_cfg"] |= {"width": 32, "ffn_width": 48}
    (folder / "named.json").write_text(json.dumps(cfg))
    open_clip.add_model_config(folder / "named.json")
    torch.manual_seed(0)
    model = open_clip.create_model("named").eval()
    entries = {"epoch": 1, "state_dict": model.state_dict(), CONFIG_ENTRY: describe_model(model)}
    torch.save(entries, folder / "epoch_1.pt")
    return folder, model


class TestCheckpoint:
    """What a checkpoint says is enough to make its model; the tokenizer's file stands beside it or is named."""

    @pytest.fixture
    def command(self, run_folder, images, capsys):
        def run(checkpoint, *words):
            place = ["--checkpoint", str(run_folder[0] / checkpoint), "--images", str(images / "a.png")]
            return main([*place, "--device", "cpu", "--topk", "3", "--json", *words]), *capsys.readouterr()

        return run

    @needs_sentencepiece[1]
    @needs_sentencepiece[0]
    def test_a_file_of_a_run_and_a_model_folder_name_alike(self, run_folder, images, command):
        folder, model = run_folder
        path = write_label_tokenizer(folder)
        status, out, _ = command("epoch_1.pt", "--label-tokenizer", str(path))
        found = open_namer(folder / "epoch_1.pt", str(path), torch.device("cpu"))
        assert all(torch.equal(one, model.state_dict()[name]) for name, one in found.model.state_dict().items())
        labels = expected(found, images / "a.png")
        assert status == 0
        assert [one["label"] for one in json.loads(out)["labels"]] == [label.text for label in labels]

        cfg = json.loads(describe_model(model))["model_cfg"]
        cfg["label_cfg"]["tokenizer"] = "words.model"
        place = folder / "model"
        place.mkdir()
        (place / HF_CONFIG_NAME).write_text(json.dumps({"model_cfg": cfg}))
        (place / "words.model").write_bytes(path.read_bytes())
        write_safetensors(model.state_dict(), place / HF_SAFE_WEIGHTS_NAME)
        assert command("model") == (0, out, "")

    def test_without_its_tokenizer_it_says_what_to_give(self, command):
        status, _, err = command("epoch_1.pt")
        assert (status, "--label-tokenizer tokenizer.model" in err) == (2, True)
        status, _, err = command("epoch_1.pt", "--label-tokenizer", "gone.model")
        assert (status, "gone.model: the decoder's tokenizer cannot be read" in err) == (4, True)

    def test_a_file_of_another_model_or_of_none_is_refused(self, run_folder, command):
        folder, _ = run_folder
        torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "plain.pt")
        clip = open_clip.create_model("ViT-micro-8-32")
        torch.save({"state_dict": clip.state_dict(), CONFIG_ENTRY: describe_model(clip)}, folder / "clip.pt")
        for name, status, message in (
            ("plain.pt", 4, "plain.pt does not say which model it holds"),
            ("clip.pt", 2, "clip.pt holds a model that writes no labels"),
            ("gone.pt", 4, "gone.pt"),
        ):
            found, _, err = command(name)
            assert (found, message in err) == (status, True), err
