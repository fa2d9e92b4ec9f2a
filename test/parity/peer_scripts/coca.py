"""Build CoCas with open_clip_torch and run them: JSON {folder, cases, exchange} to npz.

Answers ``LABEL:KEY``: first weights, then, after the same small change to all of them, outputs, gradients and, where
this open_clip can generate, captions.
"""

import inspect
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

import open_clip
from open_clip import coca_model
from open_clip.loss import CoCaLoss, DistillClipLoss, SigLipLoss


def make(case):
    torch.manual_seed(1)
    model = open_clip.create_model(case["name"], **case.get("options", {}))
    first = {key: value.float().numpy().copy() for key, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        # The peer leaves this one as the memory happened to be.
        model.text_decoder.text_projection.zero_()
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * case.get("change", 0.05)
    return model.eval(), first


def batch(model):
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(3, 3, *model.visual.image_size, generator=generator)
    text = torch.randint(1, 598, (3, 15), generator=generator)
    text[0, 6:], text[1, 9:], text[2, 12:] = 0, 0, 0
    return image, text


def answer(case):
    model, first = make(case)
    answers = {f"state/{key}": value for key, value in first.items() if key != "text_decoder.text_projection"}
    answers["parameters"] = np.array([name for name, _ in model.named_parameters()])
    answers["keys"] = np.array(list(first))
    image, text = batch(model)
    output = model(image, text)
    loss = sum(CoCaLoss(2.0, 1.0)(**{key: value for key, value in output.items() if key != "logit_bias"}))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            answers[f"gradient/{name}"] = parameter.grad.numpy()
    with torch.no_grad():
        output["whole"] = model(image, text, output_labels=False)["logits"]
        output |= {f"alone/{key}": value for key, value in model(image).items()}
        output["encode_image"], output["encode_text"] = model.encode_image(image), model.encode_text(text)
        output["raw_image"] = model.encode_image(image, normalize=False)
        between = model.forward_intermediates(image, text, output_logit_scale_bias=True)
    for key, value in between.items():
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            output[f"between/{key}/{index}"] = item
    return answers | {f"output/{key}": value.detach().numpy() for key, value in output.items()} | {"loss": loss.item()}


def captions(case):
    """Captions for every generation asked for; none where the peer has no transformers 4 to generate with."""
    model, _ = make({**case, "change": 0.3})
    image, text = batch(model)
    found = {}
    for label, options in case["generations"].items():
        options = dict(options)
        prompt = text[:, : options.pop("prompt")] if "prompt" in options else None
        torch.manual_seed(11)
        found[label] = model.generate(image, prompt, **options).numpy()
    return found


def logits(model):
    with torch.no_grad():
        return model(*batch(model))["logits"].numpy()


def exchange(name, write, read):
    """Write weights of our own and read those of the other side; the logits of both."""
    model, _ = make({"name": name})
    torch.save(model.state_dict(), write)
    return {"written": logits(model), "read": logits(open_clip.create_model(name, pretrained=read).eval())}


def losses():
    generator = torch.Generator().manual_seed(3)
    features = [F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(4)]
    logits, labels = torch.randn(6, 5, 11, generator=generator), torch.randint(0, 11, (6, 5), generator=generator)
    scale, bias, teacher_scale = torch.tensor(9.0), torch.tensor(-4.0), torch.tensor(5.0)
    leaves = [*features[:2], scale, bias, logits]
    calls = {
        "siglip": lambda i, t, s, b, _: SigLipLoss()(i, t, s, b),
        "coca": lambda i, t, s, _, x: sum(CoCaLoss(2.0, 0.5, pad_id=3)(i, t, x, labels, s)),
        "distill": lambda i, t, s, *_: sum(DistillClipLoss()(i, t, s, *features[2:], teacher_scale)),
    }
    answers = {}
    for name, call in calls.items():
        mine = [leaf.clone().requires_grad_() for leaf in leaves]
        value = call(*mine)
        value.backward()
        answers[f"{name}/value"] = value.item()
        answers |= {f"{name}/{i}": leaf.grad.numpy() for i, leaf in enumerate(mine) if leaf.grad is not None}
    return answers


def signatures():
    kinds = {"init": coca_model.CoCa.__init__, "forward": coca_model.CoCa.forward, "generate": coca_model.CoCa.generate}
    return {name: np.array(list(inspect.signature(kind).parameters)) for name, kind in kinds.items()}


def main(asked, answered):
    torch.set_num_threads(1)
    with open(asked) as file:
        request = json.load(file)
    open_clip.add_model_config(request["folder"])
    answers = {f"losses:{key}": value for key, value in losses().items()}
    answers |= {f"signatures:{key}": value for key, value in signatures().items()}
    answers |= {f"weights:{key}": value for key, value in exchange(**request["exchange"]).items()}
    for case in request["cases"]:
        answers |= {f"{case['name']}:{key}": value for key, value in answer(case).items()}
        if getattr(coca_model, "_has_transformers", True):
            answers |= {f"{case['name']}:caption/{key}": value for key, value in captions(case).items()}
    np.savez(answered, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
