"""Count parameters and floating point operations of models: ``python -m training.profiler --model ViT-B-32``.

Operations are counted by torch itself while a model runs once on its own machine; nothing is timed.

Source: open_clip_train.profiler (3.3.0): names of functions, arguments and results.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import open_clip
from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.families import find_family
from open_clip.families.towers import TowerFamily
from open_clip.tuples import to_pair


def count_params(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _count(model: nn.Module, run: Callable[[], object]) -> int:
    model.eval()
    # Towers leave out positions that nobody reads; where somebody looks at every layer, all are computed, as upstream.
    watches = [module.register_forward_hook(lambda *_: None) for module in model.modules()]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
    finally:
        for watch in watches:
            watch.remove()
    return int(counter.get_total_flops())


def _images(model: nn.Module, size: Sequence[int], batch_size: int) -> torch.Tensor:
    parameter = next(model.parameters())
    return torch.ones(batch_size, *size, device=parameter.device, dtype=parameter.dtype)


def _texts(model: nn.Module, size: Sequence[int], batch_size: int) -> torch.Tensor:
    return torch.ones(batch_size, *size, device=next(model.parameters()).device, dtype=torch.int64)


def profile_torch_image(
    model: nn.Module, image_input_size: Sequence[int], batch_size: int = 1, force_cpu: bool = False
) -> int:
    """Count the operations of an image tower on images of a size (channels, height, width)."""
    model = model.to("cpu") if force_cpu else model
    return _count(model, lambda: model(_images(model, image_input_size, batch_size)))


def profile_torch_text(
    model: nn.Module, text_input_size: Sequence[int], batch_size: int = 1, force_cpu: bool = False
) -> int:
    """Count the operations of a text tower on captions of a size (tokens,)."""
    model = model.to("cpu") if force_cpu else model
    return _count(model, lambda: model(_texts(model, text_input_size, batch_size)))


def profile_torch(
    model: nn.Module,
    text_input_size: Sequence[int],
    image_input_size: Sequence[int],
    batch_size: int = 1,
    force_cpu: bool = False,
) -> int:
    """Count the operations of a whole model on images and captions."""
    model = model.to("cpu") if force_cpu else model
    images, texts = _images(model, image_input_size, batch_size), _texts(model, text_input_size, batch_size)
    return _count(model, lambda: model(images, texts))


def profile_model(
    model_name: str, batch_size: int = 1, profiler: str = "torch", device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Describe a model by name: widths, millions of parameters, billions of operations, whole and by tower.

    A family without a text tower is counted on images; what it lacks is 0.

    Raises:
        ConfigError: ``profiler`` is not ``torch``.
        ModelNotFound: There is no such model.
    """
    if profiler != "torch":
        raise ConfigError(f"--profiler {profiler}: there is only torch, whose own counter is used.")
    config = open_clip.get_model_config(model_name) or {}
    # The towers of upstream's families stand apart in this class, so that each can be counted.
    is_apart = isinstance(find_family(config), TowerFamily)
    options: JsonObject = {"force_custom_text": True, "pretrained_text": False} if is_apart else {}
    model: Any = open_clip.create_model(model_name, load_weights=False, device=device, **options)
    image_size = (3, *to_pair(model.visual.image_size))
    text_cfg = config.get("text_cfg", {})
    text_size = (text_cfg.get("context_length", 77),)
    parts = {"": model, "image_": model.visual} | ({"text_": model.text} if is_apart else {})
    flops = {"image_": profile_torch_image(model.visual, image_size, batch_size)}
    if is_apart:
        flops["text_"] = profile_torch_text(model.text, text_size, batch_size)
        flops[""] = profile_torch(model, text_size, image_size, batch_size)
    else:
        run = model.encode_image if type(model).forward is nn.Module.forward else model
        flops[""] = _count(model, lambda: run(_images(model, image_size, batch_size)))
    found = {f"{part}mparams": round(count_params(module) / 1e6, 2) for part, module in parts.items()}
    found |= {f"{part}gflops": round(flops[part] / 1e9, 2) for part in parts}
    return {
        "model": model_name,
        "image_size": image_size[1],
        "image_width": int(config.get("vision_cfg", {}).get("width", 0)),
        "text_width": int(text_cfg.get("width", 0)),
        "embed_dim": int(config.get("embed_dim", 0)),
        **dict.fromkeys(("mparams", "image_mparams", "text_mparams", "gflops", "image_gflops", "text_gflops"), 0.0),
        **found,
    }


def list_two_towers() -> list[str]:
    """List the models whose image tower and text tower can be counted apart."""
    return [name for name in open_clip.list_models() if "text_cfg" in (open_clip.get_model_config(name) or {})]


def main(args: Sequence[str] | None = None) -> None:
    """Write a table of models to ``--results-file``, or to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m training.profiler", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="names of models, separated by commas, or `all`")
    parser.add_argument("--results-file", default="", help="CSV file to write instead of the standard output")
    parser.add_argument("--profiler", default="torch", help="what counts: torch")
    parser.add_argument("--batch-size", type=int, default=1, help="images and captions to count for")
    asked = parser.parse_args(args)
    names = list_two_towers() if asked.model == "all" else asked.model.split(",")
    rows = [profile_model(name, asked.batch_size, asked.profiler) for name in names]
    rows.sort(key=lambda row: (row["gflops"], row["mparams"], row["model"]))
    if not asked.results_file:
        _write(rows, sys.stdout)
        return
    with open(asked.results_file, "w", encoding="utf-8", newline="") as file:
        _write(rows, file)


def _write(rows: list[dict[str, Any]], file: TextIO) -> None:
    table = csv.DictWriter(file, rows[0].keys())
    table.writeheader()
    table.writerows(rows)


if __name__ == "__main__":
    main()
