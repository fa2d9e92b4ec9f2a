"""Checks that need more than one flag; run before anything is built."""

import logging
from argparse import Namespace

from open_clip.errors import ConfigError, printable
from training.params.fsdp import check_fsdp
from training.params.precisions import PRECISIONS
from training.params.recipe_rules import check_optimizer, check_recipe, recipe_flags_without_effect
from training.params.values import shown

_LOG = logging.getLogger(__name__)


def check_rules(args: Namespace) -> None:
    """Refuse flags that contradict each other and warn of those that have no effect.

    Raises:
        ConfigError: With the flags and what to change.
    """
    is_synthetic = args.dataset_type == "synthetic"
    if not (is_synthetic or any((args.train_data, args.val_data, args.imagenet_val, args.imagenet_v2))):
        raise ConfigError(
            "there is nothing to do: give --train-data FILE to train, or --val-data FILE or --imagenet-val FOLDER to "
            "evaluate.\nFor instance: python -m training.main --train-data pairs.csv --model ViT-B-32 (more: --help)"
        )
    trains = is_synthetic or bool(args.train_data)
    if not (trains or args.pretrained or args.resume or ":" in args.model):
        raise ConfigError(
            f"{printable(args.model)} has random weights, and evaluating them would give chance results: add "
            "--pretrained FILE (or a tag), or --resume FILE."
        )
    if is_synthetic and args.train_num_samples is None:
        raise ConfigError("--dataset-type synthetic needs --train-num-samples N, the number of pairs of an epoch.")
    if args.train_data_upsampling_factors and not args.dataset_resampled:
        raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled: only drawn shards have weights.")
    check_recipe(args)
    check_optimizer(args)
    _check_text_shapes(args)
    _check_counts(args)
    _check_words(args)
    _check_processes(args)
    if args.lr_scheduler == "const-cooldown" and args.epochs_cooldown is None:
        raise ConfigError("--lr-scheduler const-cooldown needs --epochs-cooldown N, the epochs of the final cooldown.")
    if args.resume == "latest" and args.name is None:
        raise ConfigError("--resume latest needs --name RUN: without it a new run folder is made and nothing is found.")
    if args.resume == "latest" and args.logs_dir.lower() == "none":
        raise ConfigError("--resume latest needs a run folder; --logs-dir None keeps none.")
    _check_keeping(args)
    for message in (*check_fsdp(args), *_flags_without_effect(args)):
        _LOG.warning(message)


def _check_text_shapes(args: Namespace) -> None:
    if args.text_shapes == "packed" and args.torchcompile:
        raise ConfigError(
            "--text-shapes packed does not go with --torchcompile: every batch has another number of tokens and would "
            "be compiled anew. Leave it out, or give --text-shapes bucketed."
        )
    if args.text_shapes == "bucketed" and args.fsdp:
        raise ConfigError(
            "--text-shapes bucketed does not go with --fsdp: a process with more runs of the text tower than the "
            "others would wait for them for ever. Leave it out, or give --text-shapes packed or padded."
        )


def _check_processes(args: Namespace) -> None:
    if args.dist_startup_timeout_s < args.dist_timeout_s:
        raise ConfigError(
            f"--dist-startup-timeout-s {args.dist_startup_timeout_s:g} is under --dist-timeout-s "
            f"{args.dist_timeout_s:g}: starting takes longer than a step. Raise the first or lower the second."
        )


def _check_keeping(args: Namespace) -> None:
    if args.keep_checkpoints == 1:
        raise ConfigError(
            "--keep-checkpoints 1 would leave nothing to go back to if the newest turns out damaged; give 2 or more, "
            "or 0 for all. --delete-previous-checkpoint keeps one, as upstream."
        )
    if args.keep_checkpoints and args.delete_previous_checkpoint:
        raise ConfigError("--keep-checkpoints and --delete-previous-checkpoint contradict each other; give one.")
    if args.remote_sync and args.logs_dir.lower() == "none":
        raise ConfigError("--remote-sync copies the run folder, and --logs-dir None keeps none.")


def _check_counts(args: Namespace) -> None:
    """Refuse lists of a length that means nothing: sides of an image, values of its channels."""
    for name, counts, meaning in (
        ("force_image_size", (1, 2), "one value, or height and width"),
        ("image_mean", (1, 3), "one value, or three for red, green and blue"),
        ("image_std", (1, 3), "one value, or three for red, green and blue"),
    ):
        values = getattr(args, name)
        if values is not None and len(values) not in counts:
            raise ConfigError(f"--{name.replace('_', '-')} takes {meaning}; it has {len(values)}.")


def _check_words(args: Namespace) -> None:
    unknown = set(args.report_to.split(",")) - {"", "tensorboard", "all"}
    if unknown:
        raise ConfigError(f"--report-to {shown(args.report_to)}: there is only tensorboard, or `all` of what there is.")
    if args.dist_url is not None and not args.dist_url.startswith(("env://", "tcp://", "file://")):
        raise ConfigError(
            f"--dist-url {shown(args.dist_url)}: it can be env://, tcp://HOST:PORT or file:///PATH/ON/A/SHARED/DISK."
        )


def _flags_without_effect(args: Namespace) -> list[str]:
    messages = recipe_flags_without_effect(args)
    if args.torchcompile_mode != "default" and not args.torchcompile:
        messages.append(f"--torchcompile-mode {args.torchcompile_mode} has no effect without --torchcompile.")
    if args.dataset_type == "synthetic" and args.train_data:
        messages.append("--train-data has no effect with --dataset-type synthetic.")
    if args.dataset_type in ("csv", "folder") and args.train_num_samples is not None:
        messages.append(f"--train-num-samples has no effect with --dataset-type {args.dataset_type}.")
    if args.lock_image_unlocked_groups and not args.lock_image:
        messages.append("--lock-image-unlocked-groups has no effect without --lock-image.")
    if args.lock_text_unlocked_layers and not args.lock_text:
        messages.append("--lock-text-unlocked-layers has no effect without --lock-text.")
    if args.epochs_cooldown is not None and args.lr_scheduler != "const-cooldown":
        messages.append("--epochs-cooldown has no effect without --lr-scheduler const-cooldown.")
    if not args.zeroshot_frequency and (args.imagenet_val or args.imagenet_v2):
        messages.append("--imagenet-val and --imagenet-v2 have no effect with --zeroshot-frequency 0.")
    if args.on_nonfinite == "stop" and args.on_loss_spike in ("warn", "off"):
        messages += [
            f"--{name.replace('_', '-')} has no effect with --on-nonfinite stop: no step is skipped."
            for name, default in (("max_skipped_steps", 8), ("max_rollbacks", 2))
            if getattr(args, name) != default
        ]
    if args.loss_scale is not None and not PRECISIONS[args.precision].takes_loss_scale:
        messages.append(f"--loss-scale has no effect with --precision {args.precision}.")
    return messages
