"""Sharing models: a folder that either OpenCLIP loads, and putting it on the Hugging Face hub.

``python -m open_clip.push_to_hf_hub --help`` does the second. Reading such folders is ``open_clip.factory``'s job.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.checkpoint import CONFIG_ENTRY, write_safetensors
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.errors import CheckpointError, ConfigError, OpenClipError, cut_list, first_line
from open_clip.factory import create_model_from_pretrained, get_model_config, get_tokenizer
from open_clip.factory.description import PREPROCESS_KEYS, describe_model, settle_config
from open_clip.model import get_model_preprocess_cfg
from open_clip.modeling.fields import show
from open_clip.protocols import EncodesTexts
from open_clip.tokenizer import SimpleTokenizer
from open_clip.tokenizer.export import save_for_transformers
from open_clip.transform.config import INTERPOLATIONS, RESIZE_MODES

_logger = logging.getLogger(__name__)


def _settle(model: nn.Module, model_config: JsonObject | None) -> JsonObject:
    settled, changed = settle_config(model, model_config)
    if changed:
        _logger.warning(
            "the model was built with other settings than the configuration given says; its own are written: %s.",
            cut_list(f"{one.key} {show(one.trained)} in place of {show(one.built)}" for one in changed),
        )
    return settled


def save_config_for_hf(model: nn.Module, config_path: str | Path, model_config: JsonObject | None) -> None:
    """Write ``open_clip_config.json``: a model's configuration and how its images are prepared.

    What options of ``create_model`` changed in the model is written as it is in the model.
    """
    _write_config(model, Path(config_path), _settle(model, model_config))


def _write_config(model: nn.Module, path: Path, model_config: JsonObject) -> None:
    known = get_model_preprocess_cfg(model)
    preprocess_cfg = {key: known[key] for key in PREPROCESS_KEYS if key in known}
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess_cfg}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_for_hf(
    model: nn.Module,
    tokenizer: object,
    model_config: JsonObject,
    save_directory: str | Path,
    safe_serialization: bool | Literal["both"] = "both",
    skip_weights: bool = False,
) -> None:
    """Write a model into a folder that ``local-dir:`` reads and the hub can hold.

    Args:
        model: the weights; how its images are prepared is taken from it too.
        tokenizer: written in transformers' files.
        model_config: as ``get_model_config`` gives it; what the model was built with otherwise replaces what it says.
        save_directory: made when it is not there.
        safe_serialization: True writes safetensors, False a torch file, "both" both.
        skip_weights: write only configuration and tokenizer.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    folder = Path(save_directory)
    model_config = _settle(model, model_config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not skip_weights:
            _save_weights(model, model_config, folder, safe_serialization)
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(str(folder))
        elif isinstance(tokenizer, SimpleTokenizer):
            save_for_transformers(tokenizer, folder)
        _write_config(model, folder / HF_CONFIG_NAME, model_config)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error}). Free space or choose another folder.") from error


def _save_weights(
    model: nn.Module, model_config: JsonObject, folder: Path, safe_serialization: bool | Literal["both"]
) -> None:
    tensors = model.state_dict()
    if safe_serialization:
        text = describe_model(model, model_cfg=model_config)
        write_safetensors(tensors, folder / HF_SAFE_WEIGHTS_NAME, {CONFIG_ENTRY: text} if text else None)
    if safe_serialization in (False, "both"):
        torch.save(tensors, folder / HF_WEIGHTS_NAME)


def push_to_hf_hub(
    model: nn.Module,
    tokenizer: object,
    model_config: JsonObject | None,
    repo_id: str,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: JsonObject | None = None,
    safe_serialization: bool | Literal["both"] = "both",
) -> object:
    """Put a model on the hub, making the repository where there is none; a page that is there is left as it is.

    ``model_card`` may have ``license``, ``tags``, ``description``, ``details`` (a dict), ``usage``, ``citation``.

    Returns:
        What the hub says of the commit.

    Raises:
        CheckpointError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import create_repo, file_exists, upload_folder
    from huggingface_hub.errors import HfHubHTTPError

    try:
        repo_id = create_repo(repo_id, token=token, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            save_for_hf(model, tokenizer, model_config or {}, folder, safe_serialization)
            if not file_exists(repo_id, "README.md", revision=revision, token=token):
                card = generate_readme(model_card or {}, repo_id.rpartition("/")[2])
                (Path(folder) / "README.md").write_text(card, encoding="utf-8")
            return upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                token=token,
                create_pr=create_pr,
                commit_message=commit_message,
            )
    except (HfHubHTTPError, ConnectionError, ValueError) as error:
        if isinstance(error, OpenClipError):
            raise
        raise CheckpointError(
            f"{repo_id}: cannot be put on the hub: {first_line(error)}. Check the name, the network and `hf auth "
            "login`."
        ) from error


def push_pretrained_to_hf_hub(
    model_name: str,
    pretrained: str,
    repo_id: str,
    precision: str = "fp32",
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    commit_message: str = "Add model",
    token: str | None = None,
    revision: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    model_card: JsonObject | None = None,
    hf_tokenizer_self: bool = False,
    **kwargs: Any,
) -> None:
    """Build a model from a tag or a weights file and put it on the hub; ``kwargs`` are ``create_model``'s.

    ``hf_tokenizer_self`` makes the configuration's tokenizer the one in the new repository.

    Raises:
        OpenClipError: as ``create_model_from_pretrained`` and ``push_to_hf_hub``.
    """
    model = create_model_from_pretrained(
        model_name,
        pretrained,
        precision=precision,
        image_mean=image_mean,
        image_std=image_std,
        image_interpolation=image_interpolation,
        image_resize_mode=image_resize_mode,
        return_transform=False,
        **kwargs,
    )
    assert isinstance(model, nn.Module)
    model_config, _ = settle_config(model, get_model_config(model_name))
    text_cfg, tokenizer = model_config.get("text_cfg"), None
    if isinstance(model, EncodesTexts):
        tokenizer = get_tokenizer(model_name, context_length=text_cfg.get("context_length") if text_cfg else None)
    if hf_tokenizer_self:
        if not text_cfg:
            raise ConfigError(f"hf_tokenizer_self: {model_name} has no text_cfg that could name a tokenizer.")
        text_cfg["hf_tokenizer_name"] = repo_id
    push_to_hf_hub(
        model,
        tokenizer,
        model_config,
        repo_id,
        commit_message=commit_message,
        token=token,
        revision=revision,
        private=private,
        create_pr=create_pr,
        model_card=model_card,
    )


def generate_readme(model_card: JsonObject, model_name: str) -> str:
    """Write the page of a model on the hub: a head of yaml, then what ``model_card`` has."""
    tags = [*model_card.get("tags", ("clip", "zero-shot-image-classification"))]
    head = {"license": model_card.get("license", "mit"), "library_name": "open_clip", "tags": tags}
    head["pipeline_tag"] = "zero-shot-image-classification"
    # A JSON value is a yaml value too.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---"]
    lines += [f"# Model card for {model_name}", ""]
    if description := model_card.get("description"):
        lines += [str(description), ""]
    if details := model_card.get("details"):
        lines += ["## Details", "", *(f"- **{name}:** {_one_line(value)}" for name, value in details.items()), ""]
    for title in ("usage", "comparison", "citation"):
        if text := model_card.get(title):
            lines += [f"## {title.capitalize()}", "", str(text), ""]
    return "\n".join(lines)


def _one_line(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put a model on the Hugging Face hub.")
    parser.add_argument("--model", required=True, help="name of the model configuration")
    parser.add_argument("--pretrained", required=True, help="a tag of the model's weights, or a weights file")
    parser.add_argument("--repo-id", required=True, help="where to, as organisation/name")
    parser.add_argument("--precision", default="fp32", help="precision of the weights (default: fp32)")
    parser.add_argument("--image-mean", type=float, nargs="+", metavar="MEAN", help="mean in place of the weights' own")
    parser.add_argument("--image-std", type=float, nargs="+", metavar="STD", help="deviation in place of their own")
    parser.add_argument("--image-interpolation", choices=INTERPOLATIONS, help="resampling filter")
    parser.add_argument("--image-resize-mode", choices=RESIZE_MODES, help="how images fit")
    parser.add_argument("--hf-tokenizer-self", action="store_true", help="take the tokenizer from the new repository")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Put a model on the hub as the flags say; the return value is the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = _parse(words)
    try:
        push_pretrained_to_hf_hub(
            args.model,
            args.pretrained,
            args.repo_id,
            precision=args.precision,
            image_mean=tuple(args.image_mean) if args.image_mean else None,
            image_std=tuple(args.image_std) if args.image_std else None,
            image_interpolation=args.image_interpolation,
            image_resize_mode=args.image_resize_mode,
            hf_tokenizer_self=args.hf_tokenizer_self,
        )
    except OpenClipError as error:
        _logger.error("%s", error)
        return error.exit_status
    _logger.info("%s is on the hub.", args.repo_id)
    return 0


class _CallableModule(ModuleType):
    """Upstream's ``open_clip.push_to_hf_hub`` is the function; here it is that and the module, whoever came first."""

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Call the function of the module's name."""
        return push_to_hf_hub(*args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _CallableModule
