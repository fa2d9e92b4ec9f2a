"""Build models with timm and Hugging Face towers and run them: JSON {folder, cases} to npz by case label.

A case is {label, name, options, kinds}; ``folder`` holds its configuration as NAME.json. Small variants of timm's
families are registered here, each under its family's name with ``small_`` before it.
"""

import hashlib
import json
import sys

import numpy as np
import torch

import open_clip

_VIT = {"embed_dim": 64, "depth": 3, "num_heads": 4}
SMALL = {
    "vit_base_patch16_siglip_224": _VIT | {"img_size": 32, "patch_size": 8},
    "vit_base_patch16_clip_quickgelu_224": _VIT | {"img_size": 32, "patch_size": 8},
    "vit_base_mci_224": {"depth": 1, "img_size": 64},
    "vit_large_patch14_clip_224": _VIT | {"img_size": 28},
    "vit_medium_patch16_gap_256": _VIT | {"img_size": 32},
    "vit_relpos_medium_patch16_cls_224": _VIT | {"img_size": 32},
    "vit_pe_core_tiny_patch16_384": _VIT | {"img_size": 32, "ref_feat_shape": (2, 2)},
    "eva02_base_patch16_clip_224": _VIT | {"img_size": 32, "ref_feat_shape": (2, 2)},
    "eva_giant_patch14_224": _VIT | {"img_size": 28},
    "convnext_tiny": {"depths": (1, 1, 2, 1), "dims": (16, 32, 48, 64)},
    "fastvit_mci0": {"layers": (1, 1, 1, 1), "embed_dims": (32, 64, 64, 64)},
    "fastvit_mci3": {"layers": (1, 1, 1, 1, 1), "embed_dims": (32, 32, 64, 64, 64)},
    "vitamin_small_224": {"depth": 1, "img_size": 32},
    "swin_base_patch4_window7_224": {
        "embed_dim": 16,
        "depths": (1, 2),
        "num_heads": (2, 4),
        "img_size": 32,
        "window_size": 4,
    },
    "resnet26d": {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_width": 8},
}


def register_small():
    """Make timm's registry know the small variants."""
    import timm

    for name, sizes in SMALL.items():

        def make(pretrained=False, family=name, sizes=sizes, **options):
            return timm.models.model_entrypoint(family)(pretrained=pretrained, **sizes, **options)

        make.__name__, make.__module__ = f"small_{name}", __name__
        timm.models.register_model(make)


def flat(label, output):
    """Name the arrays of a nest of outputs."""
    if isinstance(output, dict):
        return {k: v for key, item in output.items() for k, v in flat(f"{label}/{key}", item).items()}
    if isinstance(output, list | tuple):
        return {k: v for i, item in enumerate(output) for k, v in flat(f"{label}/{i}", item).items()}
    if isinstance(output, np.ndarray):
        return {label: output}
    return {label: output.detach().float().numpy().copy()}


def attempt(label, run):
    """Give the arrays of what ``run`` returns, or the word that it failed."""
    torch.manual_seed(7)
    try:
        return flat(label, run())
    except Exception as error:  # What one side refuses and the other does is for the test to judge.
        return {f"failed/{label}": np.array(f"{type(error).__name__}: {error}")}


class Case:
    """One model, its inputs and what is asked of it."""

    def __init__(self, case):
        self.case = case
        self.model = self.build()
        height, width = self.model.visual.image_size
        generator = torch.Generator().manual_seed(5)
        self.image = torch.randn(3, 3, height, width, generator=generator)
        length = self.model.context_length or 16
        self.text = torch.randint(2, 90, (3, min(length, 16)), generator=generator)
        config = getattr(getattr(self.model, "text", None), "config", None)
        if config is not None:
            for row, padded in enumerate((0, 3, 7)):
                self.text[row, self.text.shape[1] - padded :] = config.pad_token_id

    def build(self, **options):
        torch.manual_seed(self.case.get("seed", 1))
        options = {"pretrained_text": False} | self.case.get("options", {}) | options
        return open_clip.create_model(self.case["name"], **options)

    def change(self, model):
        """Move all weights off their first values, where many are nought."""
        torch.manual_seed(11)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn(parameter.shape) * 0.02
        return model

    def gradients(self, label, model):
        return attempt(label, lambda: self.differentiate(model))

    def differentiate(self, model):
        model.zero_grad()
        image, text = model.encode_image(self.image), model.encode_text(self.text)
        image, text = (item[0] if isinstance(item, tuple) else item for item in (image, text))
        (image.sin().sum() + text.sin().sum()).backward()
        gradients = {f"gradient/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
        return {"image": image, "text": text} | gradients

    def numbers(self):
        state = self.model.state_dict().items()
        first = [f"{key} {hashlib.sha1(value.numpy().tobytes()).hexdigest()}" for key, value in state]
        answers = {"first": np.array(first)}
        answers["parameters"] = np.array([name for name, _ in self.model.named_parameters()])
        sizes = self.model.visual.image_size, self.model.context_length, self.model.visual.preprocess_cfg
        answers["sizes"] = np.array(json.dumps(sizes))
        answers["no_decay"] = np.array(sorted(self.model.no_weight_decay()))
        model = self.change(self.model).eval()
        answers |= self.gradients("eval", model) | self.gradients("train", model.train())
        answers |= {f"trained/{key}": value.numpy().copy() for key, value in model.visual.named_buffers()}
        model = self.change(self.build()).train()
        model.set_grad_checkpointing()
        return answers | self.gradients("recomputed", model)

    def intermediates(self):
        model, answers = self.change(self.model).eval(), {}
        choices = [
            {},
            {"indices": [0, -1], "normalize_intermediates": True},
            {"indices": 1, "stop_early": True, "output_fmt": "NLC"},
            {"indices": 2, "intermediates_only": True, "output_extra_tokens": True},
        ]
        with torch.no_grad():
            for number, options in enumerate(choices):
                run = lambda options=options: model.visual.forward_intermediates(self.image, **options)  # noqa: E731
                answers |= attempt(f"intermediates/{number}", run)
            tokens = lambda: model.forward_intermediates(self.image, intermediates_only=True)  # noqa: E731
            answers |= attempt("intermediates/model", tokens)
        return answers

    def locks(self):
        answers = {}
        for unlocked in range(5):
            for flag in (False, True):
                key, model = f"{unlocked}/{flag}", self.change(self.build()).train()

                def lock_text(model=model, unlocked=unlocked, flag=flag):
                    # Upstream's own text tower knows no norms apart.
                    model.lock_text_tower(unlocked, flag if hasattr(model.text, "pooler") else True)
                    return np.array([name for name, p in model.named_parameters() if p.requires_grad])

                answers |= attempt(f"trainable/text/{key}", lock_text)
                model.requires_grad_(True)
                model.lock_image_tower(unlocked, flag)
                names = [name for name, p in model.named_parameters() if p.requires_grad]
                answers |= {
                    f"trainable/image/{key}": np.array(names),
                    f"entries/{key}": np.array(list(model.state_dict())),
                }
                answers |= attempt(f"locked/{key}", lambda model=model: model.encode_image(self.image))
        return answers

    def sizes(self):
        answers, (height, width) = {}, self.model.visual.image_size
        for size in ((2 * height, 2 * width), (height, 2 * width)):
            image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))

            def forced(size=size, image=image):
                model = self.build(force_image_size=size).eval()
                assert tuple(model.visual.image_size) == size
                return model.encode_image(image)

            def resized(size=size, image=image):
                model = self.change(self.build()).eval()
                model.visual.set_input_size(size)
                return model.encode_image(image)

            answers |= attempt(f"forced/{size}", forced) | attempt(f"resized/{size}", resized)
        dropped = lambda: self.build(force_patch_dropout=0.5).train().encode_image(self.image)  # noqa: E731
        return answers | attempt("patch-dropout", dropped)

    def precisions(self):
        answers = {}
        for precision in ("fp16", "bf16", "pure_fp16", "pure_bf16"):
            model = self.build(precision=precision).eval()
            kinds = [f"{name} {value.dtype}" for name, value in model.state_dict().items()]
            answers[f"types/{precision}"] = np.array(kinds)
            dtype = torch.float16 if "fp16" in precision else torch.bfloat16
            with torch.no_grad():
                run = lambda model=model, dtype=dtype: model.encode_image(self.image.to(dtype))  # noqa: E731
                answers |= attempt(f"half/{precision}/image", run)
                answers |= attempt(f"half/{precision}/text", lambda model=model: model.encode_text(self.text))
        return answers


def main(asked, answered):
    torch.set_num_threads(1)
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["folder"])
    if request.get("timm", True):
        register_small()
    answers = {}
    for case in request["cases"]:
        for kind in case["kinds"]:
            for key, value in getattr(Case(case), kind)().items():
                answers[f"{case['label']}:{key}"] = value
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
