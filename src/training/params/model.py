"""Flags that choose the model and its weights."""

from dataclasses import dataclass

from training.params.flags import flag
from training.params.values import number, path, whole


@dataclass(frozen=True)
class ModelParams:
    """Model and weights."""

    model: str = flag("RN50", "name of the model configuration; `open_clip.list_models()` lists them")
    pretrained: str = flag(
        "", "weights to start from: a tag of the model, such as openai (downloaded), or the path of a weights file"
    )
    pretrained_ema: bool = flag(
        False,
        "start from the averaged weights (--ema-decay) in the file that --pretrained names, not from the last ones",
    )
    pretrained_image: bool = flag(
        False, "start a timm image tower from timm's own weights; of no effect with --pretrained"
    )
    cache_dir: str | None = flag(None, "folder for downloaded weights; the user's cache folder if not given", type=path)
    force_quick_gelu: bool = flag(False, "use the approximate GELU that OpenAI's weights were trained with")
    force_custom_text: bool = flag(False, "keep the text tower under `text.` even where the configuration does not")
    force_patch_dropout: float | None = flag(
        None, "share of image patches dropped in training, 0 to 1; speeds up long runs", type=number(0.0, below=1.0)
    )
    force_image_size: list[int] | None = flag(
        None,
        "image size in pixels, one value or height and width, in place of the configuration's",
        nargs="+",
        type=whole(1, 10_000),
    )
    force_context_length: int | None = flag(
        None, "text length in tokens in place of the configuration's; positions are resized", type=whole(1, 10_000)
    )
    torchcompile: bool = flag(False, "compile the towers: slow first steps, faster ones after; evaluation is not")
    torchcompile_mode: str = flag(
        "default",
        "what --torchcompile makes; reduce-overhead: captured graphs on CUDA, which suit small batches; max-autotune:"
        " the same, and kernels tried out for minutes first",
        choices=("default", "reduce-overhead", "max-autotune"),
    )
    text_shapes: str = flag(
        "auto",
        "how captions are computed: packed (no padding), bucketed (lengths 16, 32, 48 and all, in at most four shapes),"
        " padded (all positions); auto takes what suits device and model. The results are the same",
        choices=("auto", "packed", "bucketed", "padded"),
    )
    use_bn_sync: bool = flag(
        False, "share batch-norm statistics between processes, for ResNets trained with small batches on each"
    )
    grad_checkpointing: bool = flag(
        False, "recompute activations in the backward pass: less memory, about a third slower"
    )


@dataclass(frozen=True)
class ImageParams:
    """Image preprocessing."""

    image_mean: list[float] | None = flag(
        None, "mean of each channel, 0 to 1, in place of the weights' own", nargs="+", metavar="MEAN", type=number()
    )
    image_std: list[float] | None = flag(
        None,
        "standard deviation of each channel in place of the weights' own",
        nargs="+",
        metavar="STD",
        type=number(1e-6),
    )
    image_interpolation: str | None = flag(
        None, "resampling filter in place of the weights' own", choices=("bicubic", "bilinear", "random")
    )
    image_resize_mode: str | None = flag(
        None,
        "how validation images are fitted to the square in place of the weights' own",
        choices=("shortest", "longest", "squash"),
    )


@dataclass(frozen=True)
class LockParams:
    """Frozen towers."""

    lock_image: bool = flag(False, "freeze the image tower (LiT): only the text tower learns")
    lock_image_unlocked_groups: int = flag(
        0, "last n layer groups of the image tower that stay trainable", type=whole()
    )
    lock_image_freeze_bn_stats: bool = flag(False, "also freeze the running statistics of batch norms in locked layers")
    lock_text: bool = flag(False, "freeze the text tower")
    lock_text_unlocked_layers: int = flag(0, "last n layers of the text tower that stay trainable", type=whole())
    lock_text_freeze_layer_norm: bool = flag(False, "freeze the layer norms of locked text layers too")
