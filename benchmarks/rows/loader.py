"""Batches from tars, as the trainers of both sides load them: decoded, cropped, tokenized, normalised."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.captions import describe_lengths
from benchmarks.equality import IDENTICAL, Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.settings import Values

_CROPS_CHECKED = 64


class Load(Row):
    """One epoch over the shards a round, in the training transform of a model of 224 pixels."""

    unit = "samples"
    rules: ClassVar[Mapping[str, Rule]] = {"tokens": IDENTICAL, "pixels": IDENTICAL, "crops": IDENTICAL}
    sizes: ClassVar[Values] = {"image": 224, "batch": 64, "workers": 0, "pixels": "exact"}
    tiny: ClassVar[Values] = {"image": 32, "batch": 4, "images_made": 12}

    def prepare(self) -> Values:
        """Open the shards."""
        import open_clip

        self.shards = sorted((self.settings.path / self.options["images"]).glob("*.tar"))
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self.num_samples = sum(1 for _ in self._pairs())
        self.train_transform = open_clip.image_transform(self.size["image"], is_train=True)
        self.eval_transform = open_clip.image_transform(self.size["image"], is_train=False)
        make = self._our_epochs if self.side == "ours" else self._peer_epochs
        self.epochs = make(self.train_transform)
        lengths = self.tokenizer([caption for _, caption in self._pairs()]).argmax(dim=1) + 1
        sizes = [len(data) for data, _ in self._pairs()]
        return {
            "images": self.num_samples,
            "kB an image": round(sum(sizes) / len(sizes) / 1e3, 1),
            "token lengths": describe_lengths(lengths.tolist()),
            **{name: self.size[name] for name in ("batch", "workers", "pixels")},
        }

    def check(self) -> Answers:
        """Load everything once without crops; crop the first images from seeds."""
        load = self._our_evaluation if self.side == "ours" else self._peer_evaluation
        found = sorted(((texts.tolist(), image) for image, texts in load()), key=lambda pair: pair[0])
        pixels = {f"sample {place}": image for place, (_, image) in enumerate(found)}
        images = [data for (data, _), _ in zip(self._pairs(), range(_CROPS_CHECKED), strict=False)]
        crop = self._our_crop if self.side == "ours" else self._peer_crop
        crops = {f"seed {seed}": crop(data, seed) for seed, data in enumerate(images)}
        return {"tokens": {"texts": torch.tensor([texts for texts, _ in found])}, "pixels": pixels, "crops": crops}

    def round(self, number: int) -> int:
        """Load an epoch."""
        count = 0
        for images, _ in self.epochs(number):
            count += len(images)
        return count

    def _pairs(self) -> Iterator[tuple[bytes, str]]:
        import tarfile

        for shard in self.shards:
            with tarfile.open(shard) as archive:
                held = {member.name: archive.extractfile(member) for member in archive}
                for name, file in held.items():
                    caption = held.get(name.replace(".jpg", ".txt"))
                    if name.endswith(".jpg") and file is not None and caption is not None:
                        yield file.read(), caption.read().decode("utf-8")

    def _peer_epochs(self, transform: Any) -> Any:
        info = _peer_info(self.shards, self.num_samples, self.size, self.settings.seed, transform, self.tokenizer, True)

        def epoch(number: int) -> Any:
            info.shared_epoch.set_value(number)
            return info.dataloader

        return epoch

    def _peer_evaluation(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        transform = self.eval_transform
        seed = self.settings.seed
        info = _peer_info(self.shards, self.num_samples, self.size, seed, transform, self.tokenizer, False)
        for images, texts in info.dataloader:
            yield from zip(images, texts, strict=True)

    def _peer_crop(self, data: bytes, seed: int) -> torch.Tensor:
        import io

        from PIL import Image

        torch.manual_seed(seed)
        cropped: torch.Tensor = self.train_transform(Image.open(io.BytesIO(data)).convert("RGB"))
        return cropped

    def _our_dataset(self, transform: Any, is_train: bool) -> Any:
        from open_clip.transform import to_uint8
        from training.data import ImageField, RowDataset, TextField
        from training.data.shards import Selector, Visit, open_shards

        table = open_shards("the benchmark", [str(path) for path in self.shards], Selector(), Visit())
        options = {} if self.size["pixels"] == "exact" else {"pixels": self.size["pixels"]}
        fields = ImageField(to_uint8(transform), **options), TextField(self.tokenizer)
        return RowDataset(table, fields, seed=self.settings.seed, is_train=is_train)

    def _our_epochs(self, transform: Any) -> Any:
        from open_clip.transform import normalization_of, normalize_images
        from training.data import make_train_loader

        dataset = self._our_dataset(transform, is_train=True)
        loader = make_train_loader(
            dataset, batch_size=self.size["batch"], seed=self.settings.seed, workers=self.size["workers"]
        )
        mean, std = normalization_of(transform)

        def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for batch in loader.epoch(number):
                yield normalize_images(batch.images, mean, std), batch.texts.ids

        return epoch

    def _our_evaluation(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        from open_clip.transform import normalization_of, normalize_images
        from training.data import make_eval_loader

        dataset = self._our_dataset(self.eval_transform, is_train=False)
        mean, std = normalization_of(self.eval_transform)
        for batch in make_eval_loader(dataset, batch_size=self.size["batch"]):
            yield from zip(normalize_images(batch.images, mean, std), batch.texts.ids, strict=True)

    def _our_crop(self, data: bytes, seed: int) -> torch.Tensor:
        from open_clip.transform import normalization_of, normalize_images, to_direct, to_uint8
        from training.data.decode import ImageBytes

        direct = to_direct(to_uint8(self.train_transform), self.size["pixels"])
        assert direct is not None
        out = torch.empty(1, 3, self.size["image"], self.size["image"], dtype=torch.uint8)
        direct(ImageBytes(data).open_pixels(), out[0].numpy(), torch.Generator().manual_seed(seed))
        return normalize_images(out, *normalization_of(self.train_transform))[0]


def _peer_info(
    shards: list[Path],
    num_samples: int,
    size: Values,
    seed: int,
    transform: Any,
    tokenizer: Any,
    train: bool,
) -> Any:
    from open_clip_train.data import get_wds_dataset

    pattern = f"{shards[0].parent}/{{{shards[0].stem}..{shards[-1].stem}}}.tar"
    asked = Namespace(
        train_data=pattern,
        val_data=pattern,
        train_num_samples=num_samples,
        val_num_samples=num_samples,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=seed,
        batch_size=size["batch"],
        workers=size["workers"],
        world_size=1,
    )
    return get_wds_dataset(asked, transform, is_train=train, tokenizer=tokenizer)


class LoadNear(Load):
    """The same with our ``near`` pixels; how many levels of 255 they are off is compared."""

    rules: ClassVar[Mapping[str, Rule]] = {
        "tokens": IDENTICAL,
        "levels": Rule("absolute", 12),
        "levels of an image": Rule("on average", 0.05),
    }
    sizes: ClassVar[Values] = {**Load.sizes, "pixels": "near"}

    def check(self) -> Answers:
        """Load everything once without crops; crop the first images from seeds."""
        answers = super().check()
        levels = {name: _levels(image) for group in ("pixels", "crops") for name, image in answers[group].items()}
        return {"tokens": answers["tokens"], "levels": levels, "levels of an image": levels}


def _levels(image: torch.Tensor) -> torch.Tensor:
    """Return the levels [3, H, W] that a normalised image was made of."""
    import open_clip

    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return ((image * std + mean) * 255).round().to(torch.uint8)
