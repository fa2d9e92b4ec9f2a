"""How many graphs compiled towers are made of; nothing here is compiled to machine code."""

import random

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import open_clip
from tiny_models import tiny_coca
from training.assembly.compiled import compile_model
from training.data import ReadingRule, TextPlanner

pytestmark = pytest.mark.slow
ROWS = 16


@pytest.fixture
def counter():
    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()


def make_model():
    torch.manual_seed(0)
    return open_clip.create_model("ViT-micro-8-32", force_context_length=77, output_dict=True)


def make_texts(seed):
    rng = random.Random(seed)
    lengths = [rng.choice((3, 8, 20, 40, 74)) for _ in range(ROWS)]
    return open_clip.get_tokenizer("ViT-micro-8-32", context_length=77)([" ".join(["dog"] * n) for n in lengths])


def run(model, texts):
    """Run a training step's forward and backward pass and give its features."""
    planned = TextPlanner("bucketed", ReadingRule("argmax", 2))(texts)
    generator = torch.Generator().manual_seed(1)
    output = model(torch.rand(ROWS, 3, 32, 32, generator=generator), planned)
    (output["image_features"] * output["text_features"]).sum().backward()
    return output["image_features"].detach(), output["text_features"].detach()


def test_an_epoch_needs_one_graph_of_images_and_four_of_texts_and_then_no_more(counter):
    model = make_model()
    compile_model(model, backend=counter)
    made = []
    for seed in range(12):
        run(model, make_texts(seed))
        made.append(counter.frame_count)
    assert made[-1] <= 1 + 4
    assert made[-1] == made[5]


def test_compiled_towers_give_the_same_and_keep_their_names(counter):
    plain, compiled = make_model(), make_model()
    compile_model(compiled, backend=counter)
    for expected, found in zip(run(plain, make_texts(0)), run(compiled, make_texts(0)), strict=True):
        torch.testing.assert_close(found, expected, atol=5e-7, rtol=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_evaluation_of_any_shape_makes_no_graph(counter):
    model = make_model().eval()
    compile_model(model, backend=counter)
    with torch.no_grad():
        model.encode_image(torch.rand(3, 3, 32, 32))
        model.encode_text(make_texts(0)[:5])
    assert counter.frame_count == 0


def test_a_model_that_needs_its_padding_is_compiled_whole(counter):
    model = tiny_coca()
    compile_model(model, backend=counter)
    assert model._compiled_call_impl is not None
    assert model.visual._compiled_call_impl is None
