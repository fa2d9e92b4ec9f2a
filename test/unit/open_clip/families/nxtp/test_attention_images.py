"""Maps of attention are those that the decoder computes with, and the files show them."""

import numpy as np
import torch
from PIL import Image

from label_words import make_label_tokenizer, tiny_label_model
from open_clip.families.nxtp.attention_images import AttentionMaps, read_attention_maps, write_attention_maps
from open_clip.families.nxtp.config import LabelCfg
from open_clip.families.nxtp.rows import lay_out

TOKENIZER = make_label_tokenizer("cat", "dog")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
KINDS = ("patches", "labels")


def test_each_map_is_of_the_image_and_the_prompt_that_labels_are_written_behind():
    model = tiny_label_model(TOKENIZER, change=0.3)
    maps = read_attention_maps(model, IMAGES, TOKENIZER)
    assert maps.between_patches.shape == (2, 2, 4, 16, 16)
    assert maps.of_labels.shape == (2, 2, 4, 4, 4)
    # Image tokens see each other only, so their shares are whole; the prompt takes some of the last position's.
    torch.testing.assert_close(maps.between_patches.sum(dim=-1), torch.ones(2, 2, 4, 16))
    assert (maps.between_patches > 0).all()
    assert (maps.of_labels.sum(dim=(-1, -2)) < 1).all()
    # What labels are predicted from, of the first block and image, by hand.
    prefix = lay_out(model, IMAGES, TOKENIZER, LabelCfg().prompt)
    block, rotation = model.decoder.blocks[0], model.decoder.make_rotation(prefix.positions, torch.float32)
    with torch.no_grad():
        query, key, _ = block.attn.project(block.norm_1(prefix.embeddings), rotation)
        scores = query[0, 3, -1] @ key[0, 1].mT * 8**-0.5
    expected = scores.softmax(dim=0)[:16].reshape(4, 4)
    torch.testing.assert_close(maps.of_labels[0, 0, 3], expected)
    other = read_attention_maps(model, IMAGES, TOKENIZER, prompt="The items in the image are")
    assert not torch.equal(other.of_labels, maps.of_labels)
    torch.testing.assert_close(other.between_patches, maps.between_patches)


def test_every_layer_and_head_of_an_image_is_a_file(tmp_path):
    shares = torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    grid = torch.zeros(2, 2, 3, 2, 2)
    grid[1, 0, 2] = torch.tensor([[0.1, 0.2], [0.0, 0.05]])
    write_attention_maps(AttentionMaps(shares, grid), tmp_path, ["one", "two"])
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {
        f"layer{layer:02d}-head{head:02d}-{kind}.png" for layer in (0, 1) for head in (0, 1, 2) for kind in KINDS
    }
    drawn = np.asarray(Image.open(tmp_path / "one/layer01-head02-labels.png"))
    assert drawn.shape == (224, 224)
    assert [drawn[0, 0], drawn[0, -1], drawn[-1, 0], drawn[-1, -1]] == [128, 255, 0, 64]
    assert drawn[111, 111] == 128, "a value is a square"
    assert not np.asarray(Image.open(tmp_path / "two/layer00-head00-labels.png")).any()
    drawn = np.asarray(Image.open(tmp_path / "two/layer00-head01-patches.png"))[28::56, 28::56]
    one = shares[0, 1, 1]
    assert np.array_equal(drawn, (one / one.max() * 255).round().numpy().astype(np.uint8))
