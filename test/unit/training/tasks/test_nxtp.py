"""The recipe that writes labels: what it reads of a row, what it learns, and what it leaves alone."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

import open_clip
from label_recipe import WordsTask, words_tokenizer
from label_words import tiny_label_model
from open_clip.errors import ConfigError, DataError
from open_clip.families.nxtp.config import LabelCfg
from open_clip.families.nxtp.labels import make_extractor
from open_clip.families.nxtp.texts import LabelWriter, WholeCaption
from pairs import COLOURS, SHAPES, draw_image
from recipes import ALONE, CPU, PIXELS, assert_same_step, losses_and_gradients
from training.data import Batch
from training.device import Precision
from training.evaluate.labels_encoders import EqualWords
from training.evaluate.labels_scores import average, score_labels
from training.optim import build_optimizer, parameter_groups
from training.optim.groups import find_undecayed
from training.params import RunParams, parse_args
from training.tasks import Setup
from training.tasks.nxtp import LabelsField, NxtpFlags, NxtpTask

TOKENIZER = words_tokenizer()
TABLE = "decoder.token_embedding.weight"


def writer(mode="closed", **changes):
    options = {"prompts": LabelCfg().prompts, "context": 48, "mode": mode, **changes}
    return LabelWriter(TOKENIZER, make_extractor("list"), **options)


def make_task(change=0.02, seed=0, **flags):
    model = tiny_label_model(TOKENIZER, change=change, seed=seed).train()
    return NxtpTask(model, world=ALONE, flags=NxtpFlags(**flags), tokenizer=TOKENIZER, **PIXELS)


def make_params(*words):
    chosen = ["--task", "nxtp", "--model", "nxtp-tiny", "--train-data", "x.csv", *words]
    return RunParams.from_namespace(parse_args(chosen))


def make_batch(texts, images=None, write=None, captions=None):
    """Make a batch of labels as a worker would, without drawing."""
    write = write or writer()
    values = {"labels": write.write([write.read(text) for text in texts])}
    if captions is not None:
        own = LabelWriter(TOKENIZER, WholeCaption(","), LabelCfg().caption_prompts, 48)
        values["captions"] = own.write([own.read(text) for text in captions])
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(len(texts), 3, 32, 32, generator=generator) if images is None else images
    return Batch(images, None, values)


class TestTexts:
    def test_order_and_prompt_are_the_streams_and_every_prompt_is_drawn(self):
        read = [writer().read("red, green, blue", torch.Generator().manual_seed(seed)) for seed in range(200)]
        again = [writer().read("red, green, blue", torch.Generator().manual_seed(seed)) for seed in range(200)]
        assert read == again
        assert {one.prompt for one in read} == set(LabelCfg().prompts)
        assert len({one.labels for one in read}) == 6

    def test_without_a_stream_labels_stand_as_they_came_behind_the_first_prompt(self):
        assert writer().read("red,green") == (LabelCfg().prompts[0], ("red", "green"))
        assert writer().read('["red", "green"]') == writer().read("red,green")

    @pytest.mark.parametrize(
        "text, least, message", [("", 1, "of no label; 1 or"), ("red", 2, "labels only: red; 2 or")]
    )
    def test_too_few_labels_are_a_reason(self, text, least, message):
        with pytest.raises(DataError, match=message):
            writer(min_labels=least).read(text)

    def test_labels_without_room_are_left_out_and_counted(self):
        task = make_task()
        batch = make_batch(["red, green", ", ".join(f"{a}{b}" for a in "abcdef" for b in "abcdef")])
        task.step_totals([batch])
        left_out = batch.values["labels"].sequences.left_out.tolist()
        assert left_out[0] == 0 < left_out[1]
        task.step_totals([batch])
        assert task.figures()["labels_left_out"].item() == 2 * left_out[1]

    def test_the_words_travel_in_evaluation_only(self):
        for is_train, words in ((True, ()), (False, (("red",),))):
            field = LabelsField(writer(), "labels", is_train)
            assert field.collate([writer().read("red")]).labels == words


class TestLoss:
    def test_a_step_in_parts_is_the_step_of_all_rows(self):
        texts = ["red", "green, blue, circle", "yellow, bar", "square"]
        images = torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        task = make_task()
        task.model.double()
        whole = losses_and_gradients(task, [make_batch(texts, images)])
        parts = [make_batch(texts[:1], images[:1]), make_batch(texts[1:], images[1:])]
        assert_same_step(whole, losses_and_gradients(task, parts))

    def test_the_loss_is_the_mean_over_tokens(self):
        task, batch = make_task(), make_batch(["red", "green, blue, circle"])
        losses, _ = losses_and_gradients(task, [batch])
        each = task.forward(batch)["labels_losses"]
        # Every label of one token and its delimiter.
        assert len(each) == 8
        assert losses["label_loss"].item() == pytest.approx(each.mean().item(), rel=1e-6)

    def test_a_row_has_the_mean_of_its_own_tokens(self):
        task, batch = make_task(), make_batch(["red", "green, blue"])
        found = task.row_metrics(task.forward(batch))["val_label_loss"]
        alone = [
            task.forward(make_batch([text], batch.images[[row]])) for row, text in enumerate(["red", "green, blue"])
        ]
        assert found.tolist() == pytest.approx([one["labels_losses"].mean().item() for one in alone], rel=1e-5)

    def test_the_caption_is_computed_only_where_it_has_a_weight(self):
        texts, captions = ["red", "blue"], ["a red bar, is it", "is that blue"]
        calls = []
        for weight in (0.0, 0.5):
            task = make_task(caption_loss_weight=weight)
            task.model.decoder.norm.register_forward_hook(lambda *_: calls.append(1))
            batch = make_batch(texts, captions=captions if weight else None)
            losses, _ = losses_and_gradients(task, [batch])
            assert set(losses) == ({"label_loss", "caption_loss"} if weight else {"label_loss"})
        assert len(calls) == 3

    def test_nothing_to_predict_is_no_loss(self):
        task = make_task()
        batch = make_batch(["abcdefghijklmnopqrstuvwxyz" * 2])
        losses, gradients = losses_and_gradients(task, [batch])
        assert losses["label_loss"].item() == 0
        assert all(not gradient.any() for gradient in gradients.values())


class TestPartial:
    def test_other_rows_keep_their_bits_under_decay(self):
        # The rule that decays tables too, so that decay would show.
        words = ["--train-tokens", "added", "--wd", "0.5", "--lr", "1e-2", "--decay-rule", "all"]
        params = make_params(*words)
        model = open_clip.create_model("nxtp-tiny")
        model.lock_image_tower(unlocked_groups=1)
        setup = Setup(model, params, ALONE, torch.device("cpu"), Precision("fp32", "fp32"), *PIXELS.values())
        task = WordsTask.build(setup)
        task.model.train()
        known = task.model.decoder.cfg.vocab_size
        before = task.model.get_parameter(TABLE).detach().clone()
        frozen = {name: value.clone() for name, value in task.model.named_parameters() if not value.requires_grad}
        optimizer = build_optimizer(task.model, params.optim, CPU, decay_rule=task.decay_rule)
        for _ in range(3):
            losses_and_gradients(task, [make_batch(["red", "green, blue"])])
            optimizer.step()
        after = task.model.get_parameter(TABLE).detach()
        assert torch.equal(after[:known], before[:known])
        assert not torch.equal(after[known:], before[known:])
        assert frozen.keys() >= {"visual.conv1.weight", "visual.transformer.resblocks.0.mlp.c_fc.weight"}
        assert all(torch.equal(task.model.get_parameter(name), value) for name, value in frozen.items())

    def test_tables_and_vectors_are_not_decayed(self):
        model = make_task().model
        spared = find_undecayed(NxtpTask.decay_rule, model)
        groups = parameter_groups(model.named_parameters(), 0.1, exclude=spared, rule=NxtpTask.decay_rule)
        names = {id(value): name for name, value in model.named_parameters()}
        decayed = {names[id(value)] for value in groups[1]["params"]}
        assert decayed.isdisjoint(
            {TABLE, "decoder.norm.weight", "visual.positional_embedding", "visual.ln_post.weight"}
        )
        assert decayed >= {"projection.weight", "decoder.head.weight", "visual.conv1.weight"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--label-loss-weight", "0"], "leave no loss"),
        (["--mask-mode", "public", "--first-token-target", "multi"], "give --mask-mode closed"),
        (["--label-extractor", "rule"], "Did you mean rules"),
        (["--model", "ViT-micro-8-32"], "--task nxtp cannot train ViT-micro-8-32: it writes no labels"),
    ],
)
def test_flags_that_cannot_be_are_refused(words, message):
    params = make_params(*words)
    with pytest.raises(ConfigError, match=message):
        WordsTask.check(params, ALONE)


def test_a_model_without_a_tokenizer_asks_for_one():
    params = make_params()
    with pytest.raises(ConfigError, match="--label-tokenizer tokenizer.model"):
        NxtpTask.check(params, ALONE)
    assert NxtpTask.why_not(open_clip.create_model("ViT-micro-8-32")) is not None


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """32 images of a shape on a ground, with the colours and the shape as labels."""
    folder, rng, images, labels = tmp_path_factory.mktemp("drawn"), random.Random(0), [], []
    for number in range(32):
        colour, ground = rng.sample(sorted(COLOURS), 2)
        shape = rng.choice(SHAPES)
        draw_image(folder / f"{number}.jpg", colour, shape, ground, rng)
        pixels = np.array(Image.open(folder / f"{number}.jpg").resize((32, 32)))
        images.append(torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1)
        labels.append((colour, shape, ground))
    return torch.stack(images), labels


def overfit(drawn, mode, steps):
    """Learn the drawn images in an order drawn anew each step; give recall and the share of labels that ended."""
    images, labels = drawn
    task = make_task(change=0.0)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3, weight_decay=0.0)
    draw, write = torch.Generator().manual_seed(0), writer(mode, prompts=(LabelCfg().prompt,))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, 2 * (1 - step / steps))
        values = {"labels": write.write([write.read(",".join(row), draw) for row in labels])}
        losses_and_gradients(task, [Batch(images, None, values)])
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()
    task.model.eval()
    found = task.predict_labels(Batch(images, None), 3)
    judge = EqualWords()
    covers = []
    for known, predicted in zip(labels, found, strict=True):
        words = [label.text for label in predicted] or [""]
        covers.append(score_labels(judge.similarity(known, words), judge.similarity(words, words)))
    return average(covers), [label.is_finished for row in found for label in row]


@pytest.mark.slow
def test_32_drawn_images_are_known_by_heart(drawn):
    cover, finished = overfit(drawn, "closed", 150)
    assert cover.recall > 0.95
    assert all(finished)
