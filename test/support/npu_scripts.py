"""What runs inside a process that sees simulated NPUs (or real ones): ``python npu_scripts.py NAME``.

Each function raises when something is wrong and prints one line of JSON when all is well.
"""

import contextlib
import json
import os
import sys
import tempfile

import torch
from torch import nn
from torch.nn import functional as F


class TwoTowers(nn.Module):
    """A CLIP in miniature: patch embedding, attention, causal text attention, contrastive loss."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8, bias=False)
        self.position = nn.Parameter(torch.randn(16, 32) * 0.02)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.tokens = nn.Embedding(50, 32)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.tensor(2.65))

    def forward(self, images, texts):
        image = self.patch(images).flatten(2).transpose(1, 2) + self.position
        hidden = self.norm(image)
        image = self.dropout(image + self.attention(hidden, hidden, hidden, need_weights=False)[0]).mean(1)
        text = self.tokens(texts)
        heads = text.unflatten(-1, (4, 8)).transpose(1, 2)
        text = text + F.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)
        text = text[torch.arange(len(text), device=text.device), texts.argmax(-1)]
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1), self.scale.exp()


def contrastive_loss(image, text, scale):
    """Return the symmetric cross-entropy of a batch."""
    logits = scale * image @ text.t()
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def batches(count, rows=6, seed=1):
    """Make the same host batches every time."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.rand(rows, 3, 32, 32, generator=generator), torch.randint(0, 50, (rows, 7), generator=generator)


def train(kind, precision="fp32", steps=5):
    """Train a few steps through the device room; return the losses.

    The fixed loss scale lets no fp16 step overflow, so that every step counts.
    """
    from training.device import make_mixed_precision, resolve_precision, select_device

    device = select_device(kind)
    target = device.activate()
    torch.manual_seed(0)
    model = TwoTowers().to(target)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **device.optimizer_options(model.parameters()))
    mixed = make_mixed_precision(
        resolve_precision(precision, device), device, target, 512 if precision == "amp" else None
    )
    model, optimizer = mixed.prepare(model, optimizer)
    losses = []
    for images, texts in batches(steps):
        optimizer.zero_grad()
        with mixed.autocast():
            loss = contrastive_loss(*model(device.move(images), device.move(texts)))
        mixed.backward(loss)
        mixed.unscale(optimizer)
        nn.utils.clip_grad_norm_(mixed.parameters_to_clip(model, optimizer), 1.0)
        mixed.step(optimizer)
        losses.append(loss.item())
    return losses


def losses():
    """Compare fp32, bf16 and fp16 training on the npu with fp32 on the CPU."""
    from training.device import select_device

    names = ["fp32", "amp", *(["amp_bf16"] if select_device("npu").supports_bf16() else [])]
    return {"cpu": train("cpu"), **{name: train("npu", name) for name in names}}


def tensors():
    """Exercise creation, views, indexing, random state, saving and the refusals of a device."""
    from torch_npu.simulator import no_sync

    start = torch.arange(12.0, device="npu").reshape(3, 4)
    start[:, 1:3] += 100
    start[[0, 1], [1, 2]] = 0
    expected = torch.tensor([[0.0, 0, 102, 3], [4, 105, 0, 7], [8, 109, 110, 11]])
    assert torch.equal(start.cpu(), expected)
    grown = torch.empty(0, device="npu")
    torch.add(start, 1, out=grown)
    assert torch.equal(grown.cpu(), expected + 1)
    pinned = expected.pin_memory()
    assert pinned.is_pinned()
    assert pinned[1:].is_pinned()
    assert not expected.is_pinned()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(start, f"{folder}/x.pt")
        for where, kind in (("cpu", "cpu"), (None, "npu:0"), ("npu:1", "npu:1")):
            loaded = torch.load(f"{folder}/x.pt", map_location=where, weights_only=True)
            assert str(loaded.device) == kind
            assert torch.equal(loaded.cpu(), expected)
    state = torch.npu.get_rng_state()
    first = torch.rand(4, device="npu")
    torch.npu.set_rng_state(state)
    assert torch.equal(first, torch.rand(4, device="npu"))
    refused = {}
    with no_sync():
        refused["item"] = _refusal(lambda: start[0, 0].item())
        refused["cpu"] = _refusal(start.cpu)
    refused["mixed"] = _refusal(lambda: start + expected)
    refused["two devices"] = _refusal(lambda: start + start.to("npu:1"))
    refused["numpy"] = _refusal(start.numpy)
    refused["ordinal"] = _refusal(lambda: torch.ones(1, device="npu:7"))
    refused["float64"] = _refusal(start.double)
    return refused


def _refusal(call):
    """Return the first line of what a call raises, or None."""
    try:
        call()
    except (RuntimeError, TypeError) as error:
        return str(error).splitlines()[0]
    return None


def loader():
    """Read through a DataLoader with workers and pinned memory."""
    data = torch.utils.data.TensorDataset(torch.arange(40.0))
    torch.ones(1, device="npu")
    seen = []
    for (batch,) in torch.utils.data.DataLoader(data, batch_size=8, num_workers=2, pin_memory=True):
        assert batch.is_pinned()
        seen += batch.to("npu", non_blocking=True).tolist()
    return seen == list(range(40))


def _touch_device(connection):
    connection.send(_refusal(lambda: torch.ones(1, device="npu")))


def fork():
    """Touch the device in a forked child of a process that has used it."""
    from torch.multiprocessing import get_context

    torch.ones(1, device="npu")
    context = get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_touch_device, args=(there,))
    child.start()
    answer = here.recv()
    child.join()
    return answer


def census():
    """Count the operators of one training step."""
    from torch_npu.simulator import op_census

    train("npu", "amp", steps=1)
    with op_census() as counts:
        train("npu", "amp", steps=1)
    return counts


def ranking():
    """Rank 150 images against 450 captions, 40 of which tie; count the operators, and give the figures of both."""
    from torch_npu.simulator import op_census

    from training.device import select_device
    from training.evaluate import retrieval_metrics

    target = select_device("npu").activate()
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(450) % 150
    own, texts = (F.normalize(torch.randn(rows, 16, generator=generator), dim=-1) for rows in (150, 450))
    texts[:20] = texts[20:40]
    images = own[ids]
    expected = retrieval_metrics(images, texts, ids, tile=64)
    images, texts = images.to(target), texts.to(target)
    with op_census() as counts:
        found = retrieval_metrics(images, texts, ids, tile=64)
    return {"cpu": expected, "npu": found, "counts": counts}


def memory():
    """Ask for more memory than the device has."""
    from training.device import select_device

    device = select_device("npu")
    device.activate()
    try:
        torch.empty(2**30, device="npu")
    except RuntimeError as error:
        return device.is_out_of_memory(error)
    return None


def distributed():
    """Train under DDP over hccl in amp; check collectives, autograd through all_gather, and equal weights."""
    import torch.distributed as dist
    from torch.distributed.nn.functional import all_gather as all_gather_with_gradient
    from torch.nn.parallel import DistributedDataParallel

    from training.device import make_mixed_precision, resolve_precision, select_device

    rank = int(os.environ["RANK"])
    device = select_device("npu")
    target = device.activate(rank)
    dist.init_process_group(device.collective_backend, device_id=target)
    torch.manual_seed(rank)
    model = TwoTowers().to(target)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **device.optimizer_options(model.parameters()))
    mixed = make_mixed_precision(resolve_precision("amp", device), device, target)
    model, optimizer = mixed.prepare(model, optimizer)
    model = DistributedDataParallel(model, device_ids=[rank], static_graph=True)
    for images, texts in batches(4, seed=rank):
        optimizer.zero_grad()
        with mixed.autocast():
            image, text, scale = model(device.move(images), device.move(texts))
            image, text = (torch.cat(all_gather_with_gradient(features)) for features in (image, text))
            loss = contrastive_loss(image, text, scale)
        mixed.backward(loss)
        mixed.unscale(optimizer)
        nn.utils.clip_grad_norm_(mixed.parameters_to_clip(model, optimizer), 1.0)
        mixed.step(optimizer)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    gathered = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(gathered, weights)
    assert torch.equal(*gathered), "the ranks' weights differ"
    _check_collectives(dist, rank, target)
    dist.destroy_process_group()
    return {"loss": loss.item(), "weights": float(weights.norm())}


def _check_collectives(dist, rank, target):
    value = torch.full((2,), float(rank + 1), device=target)
    whole = torch.empty(4, device=target)
    dist.all_gather_into_tensor(whole, value)
    assert whole.tolist() == [1, 1, 2, 2]
    part = torch.empty(2, device=target)
    dist.reduce_scatter_tensor(part, whole)
    assert part.tolist() == [2 * (rank + 1)] * 2
    swapped = torch.empty(2, device=target)
    dist.all_to_all_single(swapped, value)
    assert swapped.tolist() == [1, 2]
    dist.broadcast(value, src=1)
    assert value.tolist() == [2, 2]
    dist.reduce(value, dst=0)
    if rank == 0:
        assert value.tolist() == [4, 4]
        dist.send(value, dst=1)
    else:
        dist.recv(value, src=0)
        assert value.tolist() == [4, 4]
    objects = [None, None]
    dist.all_gather_object(objects, {"rank": rank})
    assert objects == [{"rank": 0}, {"rank": 1}]
    host = torch.ones(1)
    dist.all_reduce(host)
    assert host.item() == 2
    dist.barrier()


def tiled_losses():
    """Compute losses by tiles, in fp32 and autocast, without waiting for the device; count the operators."""
    from torch_npu.simulator import no_sync, op_census

    from open_clip.loss import ClipLoss, SigLipLoss
    from training.device import select_device

    target = select_device("npu").activate()
    generator = torch.Generator().manual_seed(0)
    host = [F.normalize(torch.randn(50, 8, generator=generator), dim=-1) for _ in range(2)]
    host += [torch.tensor(30.0), torch.tensor(-10.0)]
    counts = {}
    for loss in (ClipLoss(tile_rows=16), SigLipLoss(chunk_size=16)):
        answers = []
        for device, dtype in (("cpu", None), (target, None), (target, torch.float16)):
            leaves = [leaf.detach().to(device).requires_grad_() for leaf in host]
            context = torch.autocast("npu", dtype) if dtype else contextlib.nullcontext()
            # The first call asks the device once what it can multiply.
            with context:
                loss(*leaves)
            with no_sync(), op_census() as seen:
                with context:
                    value = loss(*leaves)
                value.backward()
            counts.update(seen)
            answers.append([value.cpu(), *(leaf.grad.cpu() for leaf in leaves)])
        for answer in answers[1:]:
            for one, other in zip(answer, answers[0], strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    return counts


def texts():
    """Check that towers attend with the fused kernel and leave padding out, without waiting for the device."""
    import torch_npu
    from torch_npu.simulator import no_sync

    from open_clip.transformer.layout import plan_texts
    from open_clip.transformer.texts import Texts
    from tiny_models import tiny_batch, tiny_clip
    from training.device import select_device

    calls = []
    kernel = torch_npu.npu_fusion_attention
    torch_npu.npu_fusion_attention = lambda *args, **options: (
        calls.append(options["sparse_mode"]) or kernel(*args, **options)
    )
    target = select_device("npu").activate()
    model, (images, text) = tiny_clip(), tiny_batch()
    wanted = model(images, text)
    sum(part.sum() for part in wanted[:2]).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.to(target)
    layout = plan_texts(text.argmax(-1) + 1, shapes="bucketed", context_length=16)
    texts = Texts(text, layout=layout).to(target)
    images, text = images.to(target), text.to(target)
    with no_sync():
        got = model(images, texts)
        sum(part.sum() for part in got[:2]).backward()
    assert set(calls) == {0, 2}, f"the fused kernel ran with sparse modes {calls}"
    torch.testing.assert_close([x.cpu() for x in got], list(wanted), atol=5e-7, rtol=0)
    for name, parameter in model.named_parameters():
        if gradients[name] is not None:
            bound = 5e-6 * gradients[name].abs().max().item() + 1e-7
            torch.testing.assert_close(parameter.grad.cpu(), gradients[name], atol=bound, rtol=0, msg=name)
    with torch.no_grad():
        planned_here = model.encode_text(text, normalize=True)
    torch.testing.assert_close(planned_here.cpu(), wanted[1], atol=5e-7, rtol=0)
    return {"calls": len(calls)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
