"""Object recognition as next-token prediction (arXiv 2312.02142): a decoder writes labels behind an image.

Letters: B rows, L text positions, N positions that predict, K alternatives of one, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError, printable
from open_clip.factory.source import find_source
from open_clip.factory.tokenizers import choose_tokenizer
from open_clip.families import find_family
from open_clip.families.base import Forced
from open_clip.families.nxtp.config import MASK_MODES, make_label_cfg
from open_clip.families.nxtp.convert import load_decoder
from open_clip.families.nxtp.decoding import STRATEGIES, predict_labels
from open_clip.families.nxtp.labels import EXTRACTORS, RULES, make_extractor
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.ranking import RANKINGS, Label
from open_clip.families.nxtp.targets import FIRST_TOKEN_TARGETS, token_losses
from open_clip.families.nxtp.texts import LabelBatch, LabelText, LabelWriter, WholeCaption, text_room
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.transform import normalize_images
from training.data import Batch, Field, FieldKit, Row
from training.data.source import TEXT
from training.distributed import World, mean_over_processes, unwrap_model
from training.evaluate import Evaluation, EvaluationKit, LabelRecall
from training.evaluate.labels_encoders import ENCODER_FLAG_HELP
from training.optim import train_only_rows
from training.params import RunParams
from training.params.flags import flag
from training.params.values import number, path, text, whole
from training.tasks.base import Outputs, Setup, Task

_NO_LABELS = "it writes no labels, as those of the family nxtp do"
_TABLE = "decoder.token_embedding.weight"


@dataclass(frozen=True)
class NxtpFlags:
    """Labels as next tokens."""

    decoder_weights: str | None = flag(
        None, "decoder to start from: a folder of Hugging Face's or Meta's layout (default: random)", type=path
    )
    image_weights: str | None = flag(
        None, "weights file of a CLIP whose image tower is taken to start from (default: random)", type=path
    )
    label_tokenizer: str | None = flag(
        None, "tokenizer.model or tokenizer.json of the decoder (default: the one in the model's folder)", type=path
    )
    label_column: str | None = flag(
        None, "column of ready labels, joined by commas or a JSON list (default: the nouns of the caption)", type=text
    )
    label_extractor: str = flag("rules", "what finds the nouns of a caption: " + ", ".join(EXTRACTORS), type=text)
    label_rule: str = flag("fixed", "public deletes noise inside words, as NXTP publicly does", choices=RULES)
    min_labels: int = flag(1, "labels that a row must have to be usable", type=whole(1))
    label_prompts: str = flag(
        "drawn", "in training: one of the model's prompts, drawn for each row, or always one", choices=("drawn", "one")
    )
    mask_mode: str | None = flag(
        None,
        "closed ends every label by the delimiter, public all but the last (default: the model's)",
        choices=MASK_MODES,
    )
    first_token_target: str = flag(
        "next", "multi: a label's first token is learned at the prompt, in no order", choices=FIRST_TOKEN_TARGETS
    )
    loss_on_prompt: bool = flag(False, "learn the prompt's words as well, as NXTP publicly does")
    label_loss_weight: float = flag(1.0, "weight of the loss of labels", type=number(0.0))
    caption_loss_weight: float = flag(
        0.0,
        "weight of the loss of the whole caption behind a prompt of its own; 0 does not compute it",
        type=number(0.0),
    )
    train_tokens: str = flag(
        "all",
        "rows of the decoder's table of tokens that learn; added: only those of tokens that the tokenizer lacks",
        choices=("all", "added", "none"),
    )
    topk: int = flag(10, "labels of an image that evaluation predicts", type=whole(1))
    label_strategy: str = flag("one_shot", "how evaluation writes labels", choices=STRATEGIES)
    label_ranking: str = flag(
        "prob", "how evaluation orders labels", choices=tuple(name for name in RANKINGS if name != "clip")
    )
    label_encoder: str | None = flag(None, ENCODER_FLAG_HELP, type=text)


class LabelsField(Field):
    """Labels behind a prompt, ``LabelBatch``; prompt and order of a training row are drawn.

    Args:
        writer: Finds the labels and writes them.
        column: Of captions or of labels.
        is_train: Whether to draw; else the labels travel as words too.
        name: Of the field.
    """

    def __init__(self, writer: LabelWriter, column: str, is_train: bool, name: str = "labels") -> None:
        self.name = name
        self.columns = (column,)
        self._writer = writer
        self._is_train = is_train

    def read(self, row: Row) -> LabelText:
        """Find the labels of a row."""
        return self._writer.read(row.text(self.columns[0]), row.generator() if self._is_train else None)

    def collate(self, values: Sequence[LabelText]) -> LabelBatch:
        """Write the texts of a batch."""
        return self._writer.write(values, keep_labels=not self._is_train)


class NxtpTask(Task):
    """Train a decoder to write the labels of an image.

    The loss is the mean over all tokens of the step that are to be predicted, on all processes and in all batches of
    an accumulated step, so it does not depend on how the step is cut up.
    """

    name = "nxtp"
    Flags = NxtpFlags
    # Vectors, tables of tokens and of positions are not decayed.
    decay_rule = "mae"

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        world: World,
        flags: NxtpFlags,
        tokenizer: LabelTokenizer,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self._world, self._flags, self._tokenizer = world, flags, tokenizer
        self._mean, self._std, self._input_dtype = mean, std, input_dtype
        self._left_out: torch.Tensor | None = None

    @classmethod
    def check(cls, params: RunParams, world: World) -> None:
        """Refuse flags that contradict each other, and a tokenizer that cannot be used."""
        flags = _flags(params)
        if flags.label_loss_weight == 0 and flags.caption_loss_weight == 0:
            raise ConfigError("--label-loss-weight 0 and --caption-loss-weight 0 leave no loss; give one a weight.")
        label_cfg = make_label_cfg(_read_cfg(params).get("label_cfg"))
        if (flags.mask_mode or label_cfg.mask_mode) == "public" and flags.first_token_target == "multi":
            raise ConfigError(
                "--first-token-target multi takes all labels alike, and --mask-mode public closes all but the last: "
                "give --mask-mode closed, or leave --first-token-target out."
            )
        if flags.label_column is None:
            make_extractor(flags.label_extractor, flags.label_rule)
        tokenizer = cls.open_tokenizer(params)
        for prompt in label_cfg.caption_prompts if flags.caption_loss_weight else ():
            tokenizer.answer_id(prompt)

    @classmethod
    def open_tokenizer(cls, params: RunParams) -> LabelTokenizer:
        """Open the decoder's tokenizer.

        Raises:
            CheckpointError: The file is missing or damaged.
            ConfigError: No flag and no model folder names one, or it does not fit the model.
        """
        return _open_tokenizer(params.model.model, params.model.cache_dir, _flags(params).label_tokenizer)

    @classmethod
    def model_options(cls, params: RunParams) -> dict[str, object]:
        """Start from an image tower."""
        weights = _flags(params).image_weights
        return {} if weights is None else {"pretrained_image_path": weights}

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Refuse models of other families."""
        return None if isinstance(model, NextLabelModel) else _NO_LABELS

    @classmethod
    def build(cls, setup: Setup) -> "NxtpTask":
        """Load the decoder, and choose which of its tokens learn."""
        flags, model = _flags(setup.params), setup.model
        room = text_room(_read_cfg(setup.params))
        if model.text_context != room:
            raise ConfigError(
                f"the weights belong to a model whose texts have room for {model.text_context} tokens, and --model "
                f"{printable(setup.params.model.model, 200)} has {room}: give --force-image-size and "
                "--force-context-length as the weights have them."
            )
        if flags.decoder_weights is not None:
            load_decoder(model.decoder, flags.decoder_weights)
        if flags.train_tokens != "all":
            model.get_parameter(_TABLE).requires_grad_(False)
        if flags.train_tokens == "added":
            train_only_rows(model, _TABLE, range(model.decoder.cfg.vocab_size, model.vocab_size))
        tokenizer = cls.open_tokenizer(setup.params)
        return cls(model, world=setup.world, flags=flags, tokenizer=tokenizer, **setup.options)

    @classmethod
    def fields(cls, kit: FieldKit, params: RunParams) -> tuple[Field, ...]:
        """Read images and labels, and whole captions where their loss has a weight."""
        flags, cfg = _flags(params), _read_cfg(params)
        label_cfg = make_label_cfg(cfg.get("label_cfg"))
        draws = kit.is_train and flags.label_prompts == "drawn"
        extractor = make_extractor("list" if flags.label_column else flags.label_extractor, flags.label_rule)
        labels = LabelWriter(
            cls.open_tokenizer(params),
            extractor,
            label_cfg.prompts if draws else (label_cfg.prompt,),
            text_room(cfg),
            flags.mask_mode or label_cfg.mask_mode,
            flags.first_token_target,
            flags.loss_on_prompt,
            flags.min_labels,
        )
        found = (kit.image(), LabelsField(labels, flags.label_column or TEXT, kit.is_train))
        if not flags.caption_loss_weight:
            return found
        # A caption is one label, which has to see itself: its delimiter closes it in every mode.
        caption = WholeCaption(label_cfg.delimiter)
        captions = replace(labels, extractor=caption, prompts=label_cfg.caption_prompts, mode="closed", min_labels=1)
        return (*found, LabelsField(captions, TEXT, kit.is_train, "captions"))

    def prepare(self, batch: Batch) -> Batch:
        """Normalise the images."""
        images = normalize_images(batch.images, self._mean, self._std)
        return batch._replace(images=images if self._input_dtype is None else images.to(self._input_dtype))

    def forward(self, batch: Batch) -> Outputs:
        """Compute the cross entropy of each token that is to be predicted, [N], with its row and the labels of rows."""
        outputs: Outputs = {}
        for name in _parts(batch):
            if self._weight(name):
                sequences, found, _ = _texts(batch, name)
                outputs[f"{name}_losses"] = token_losses(self.model(batch.images, sequences, found.at), found.ids)
                outputs[f"{name}_rows"] = found.at // sequences.ids.shape[1]
                outputs[f"{name}_counts"] = sequences.labels
        return outputs

    def step_totals(self, batches: Sequence[Batch]) -> Outputs:
        """Count the tokens to be predicted in the whole step, a process's share of them, without a host sync."""
        names, device = _parts(batches[0]), batches[0].images.device
        counts = [float(sum(len(_texts(batch, name).targets.at) for batch in batches)) for name in names]
        left_out = torch.stack([_texts(batch, "labels").sequences.left_out.sum() for batch in batches]).sum()
        sums = torch.cat([torch.tensor(counts, device=device), left_out[None].float()])
        means = mean_over_processes(sums, self._world)
        left_out = means[-1] * self._world.world_size
        self._left_out = left_out if self._left_out is None else self._left_out + left_out
        return {f"{name}_tokens": mean.clamp(min=1e-6) for name, mean in zip(names, means, strict=False)}

    def row_losses(self, outputs: Outputs) -> Outputs:
        """Compute a batch's share of the losses, each times its weight."""
        losses = {}
        for name, title in (("labels", "label_loss"), ("captions", "caption_loss")):
            if f"{name}_losses" in outputs:
                # As processes average their gradients, each divides by its share of the tokens and not by all.
                losses[title] = self._weight(name) * outputs[f"{name}_losses"].sum() / outputs[f"{name}_tokens"]
        return losses

    def row_metrics(self, outputs: Outputs) -> Outputs:
        """Compute each row's mean loss over the tokens of its labels; 0 where none had room."""
        if "labels_losses" not in outputs:
            return {}
        losses, rows = outputs["labels_losses"], outputs["labels_rows"]
        zeros = torch.zeros_like(outputs["labels_counts"], dtype=losses.dtype)
        tokens = zeros.index_add(0, rows, torch.ones_like(losses))
        return {"val_label_loss": zeros.index_add(0, rows, losses) / tokens.clamp(min=1)}

    def predict_labels(self, batch: Batch, k: int) -> list[list[Label]]:
        """Name what is in the images of a prepared batch: up to k labels each, best first; the model is bare."""
        model = unwrap_model(self.model)
        assert isinstance(model, NextLabelModel)
        flags = self._flags
        return predict_labels(model, batch.images, self._tokenizer, k, flags.label_strategy, flags.label_ranking)

    def reference_labels(self, batch: Batch) -> tuple[tuple[str, ...], ...]:
        """Give the labels of each row of a batch of evaluation."""
        return _texts(batch, "labels").labels

    def evaluations(self, kit: EvaluationKit) -> tuple[Evaluation, ...]:
        """Measure how well predicted labels and those of the data cover each other."""
        flags = self._flags
        how = f"{flags.label_strategy}-{flags.label_ranking}"
        return () if kit.rows is None else (LabelRecall(kit, flags.topk, flags.label_encoder, how),)

    def figures(self) -> Outputs:
        """Give how many labels had no room in their texts since this process began."""
        return {} if self._left_out is None else {"labels_left_out": self._left_out}

    def _weight(self, name: str) -> float:
        return self._flags.label_loss_weight if name == "labels" else self._flags.caption_loss_weight


def _flags(params: RunParams) -> NxtpFlags:
    assert isinstance(params.own, NxtpFlags)
    return params.own


def _parts(batch: Batch) -> list[str]:
    return [name for name in ("labels", "captions") if name in batch.values]


def _texts(batch: Batch, name: str) -> LabelBatch:
    found = batch.values[name]
    assert isinstance(found, LabelBatch)
    return found


def _read_cfg(params: RunParams) -> JsonObject:
    """Read the configuration of the model of these flags.

    Raises:
        ConfigError: It is of another family.
    """
    flags = params.model
    cfg = find_source(flags.model, None, load_weights=False, cache_dir=flags.cache_dir).model_cfg
    family, size = find_family(cfg), flags.force_image_size
    if not issubclass(family.model_class, NextLabelModel):
        shown = printable(flags.model, 200)
        raise ConfigError(f"--task nxtp cannot train {shown}: {_NO_LABELS}. Choose another --model.")
    # One number stands for both sides.
    sides = (size[0], size[-1]) if size else None
    return family.apply_options(cfg, Forced(image_size=sides, context_length=flags.force_context_length))


@cache
def _open_tokenizer(model: str, cache_dir: str | None, path: str | None) -> LabelTokenizer:
    try:
        make = choose_tokenizer(model, None, cache_dir, **({} if path is None else {"path": path}))
    except ConfigError as error:
        if path is not None:
            raise
        raise ConfigError(
            f"--task nxtp: the tokenizer of {printable(model, 200)} is not known. Give the file of its decoder's: "
            "--label-tokenizer tokenizer.model."
        ) from error
    tokenizer = make()
    assert isinstance(tokenizer, LabelTokenizer)
    return tokenizer
