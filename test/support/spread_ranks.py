"""One rank's part in comparing FSDP with DDP, to be run in its own process; what it found is written to a file."""

import copy
import warnings

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from open_clip import CLIP
from open_clip.loss import ClipLoss
from tiny_models import tiny_batch, tiny_clip, tiny_coca, tiny_config
from training.checkpoint.gathered import gather_optimizer, gather_weights, spread_optimizer_state
from training.device.cpu import CpuDevice
from training.distributed import Sharding, whole_model
from training.distributed.fsdp import shard_model
from training.distributed.spread_tensors import clip_gradients, whole_tensor
from training.optim import build_optimizer, train_only_rows
from training.params import OptimParams

ROWS, STEPS, CLIP_NORM = 8, 6, 0.5
#: Rows of the table of 600 tokens: the end of every text, and one that no text holds. The first rank holds neither.
FEW_ROWS = [450, 599]
RESNET = {"layers": (1, 1, 1, 1), "width": 8, "head_width": 8, "patch_size": None}


def make_clip():
    """The model that is compared: two towers, some of the image tower locked."""
    model = tiny_clip()
    model.lock_image_tower(unlocked_groups=2)
    model.output_dict = True
    return model.train()


def make_optimizer(model):
    """Its optimizer, whose first group mixes spread parameters with the scalar that is whole."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [[p for _, p in named if p.ndim < 2], [p for _, p in named if p.ndim >= 2]]
    sorted_out = [{"params": groups[0], "weight_decay": 0.0}, {"params": groups[1]}]
    # The trainer's epsilon for these models: keys have biases whose gradient is nothing but rounding.
    return torch.optim.AdamW(sorted_out, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)


def rows_of(rank, world_size, step):
    """This rank's images and captions of a step; all ranks' together are the same for any number of ranks."""
    images, texts = tiny_batch(ROWS, seed=100 + step)
    share = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)
    return images[share], texts[share]


def train(model, optimizer, world, clip, steps=range(STEPS)):
    """Take steps; give the losses and the norms before clipping."""
    loss_of = ClipLoss(gather_with_grad=True, rank=world.rank, world_size=world.world_size)
    losses, norms = [], []
    for step in steps:
        optimizer.zero_grad()
        loss = loss_of(**model(*rows_of(world.rank, world.world_size, step)))
        loss.backward()
        norms.append(clip(model.parameters()))
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms)


def local_bytes(model, optimizer):
    """Bytes that this rank holds of parameters and optimizer state."""
    tensors = [*model.parameters(), *(t for state in optimizer.state.values() for t in state.values())]
    own = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in own)


def torch_clip(parameters):
    """What DDP's gradients are clipped with."""
    return torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)


def spread_clip(parameters):
    """What FSDP's gradients are clipped with."""
    return clip_gradients(parameters, CLIP_NORM)


def spread(model, world, **options):
    """Spread a model as the trainer does."""
    return shard_model(model, torch.device("cpu"), world, Sharding(**options))


def compare_training(world):
    """Train the same model both ways, with a save and a load in the middle of one."""
    plain, model = make_clip(), spread(make_clip(), world)
    wrapped = DistributedDataParallel(plain)
    optimizers = make_optimizer(plain), make_optimizer(model)
    names = [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    expected = train(wrapped, optimizers[0], world, torch_clip)
    found = train(model, optimizers[1], world, spread_clip)
    answers = {"names": names, "ddp": expected, "fsdp": found}
    answers["bytes"] = local_bytes(model, optimizers[1]), local_bytes(plain, optimizers[0])
    answers["ddp weights"] = {name: value.clone() for name, value in plain.state_dict().items()}
    answers["fsdp weights"] = gather_weights(model, world)
    answers["ddp optimizer"] = optimizers[0].state_dict()
    answers["fsdp optimizer"] = gather_optimizer(optimizers[1], world)
    answers["evaluated"], answers["reference"] = evaluate_unevenly(model, plain, world)
    # Back into another spread model, whole on every rank as a file is read, and on from there.
    again = spread(make_clip(), world)
    again.load_state_dict(answers["ddp weights"])
    optimizer = make_optimizer(again)
    optimizer.load_state_dict(spread_optimizer_state(optimizer, copy.deepcopy(answers["ddp optimizer"])))
    later = range(STEPS, STEPS + 2)
    answers["on"] = train(model, optimizers[1], world, spread_clip, later)[0]
    answers["on after loading"] = train(again, optimizer, world, spread_clip, later)[0]
    return answers


def evaluate_unevenly(model, plain, world):
    """Encode another number of batches on each rank; nobody may wait for the others."""
    with whole_model(model) as whole, torch.no_grad():
        whole.eval()
        features = [whole.encode_image(tiny_batch(2, seed=step)[0]) for step in range(world.rank + 1)]
    with torch.no_grad():
        reference = [plain.eval().encode_image(tiny_batch(2, seed=step)[0]) for step in range(world.rank + 1)]
    plain.train()
    return torch.cat(features), torch.cat(reference)


def accumulate(world):
    """Gradients of two passes that are reduced together, and of the same passes reduced apart."""
    gradients = []
    for paused in (True, False):
        model = spread(make_clip(), world)
        loss_of = ClipLoss(gather_with_grad=True, rank=world.rank, world_size=world.world_size)
        for step in range(2):
            context = model.no_sync() if paused and step == 0 else torch.enable_grad()
            with context:
                loss_of(**model(*rows_of(world.rank, world.world_size, step))).backward()
        gradients.append({n: whole_tensor(p.grad) for n, p in model.named_parameters() if p.grad is not None})
    return gradients


def train_few_rows(world):
    """Train some rows of the token table under DDP and under FSDP, in steps of two passes.

    Gives the table at the start, and of both ways the table at the end with its last gradient and its first moment.
    """
    answers = [make_clip().token_embedding.weight.detach()]
    for is_spread in (False, True):
        model = make_clip()
        train_only_rows(model, "token_embedding.weight", FEW_ROWS)
        model = spread(model, world) if is_spread else model
        settings = OptimParams(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-6, wd=0.2)
        optimizer = build_optimizer(model, settings, CpuDevice())
        table = model.token_embedding.weight
        model = model if is_spread else DistributedDataParallel(model, gradient_as_bucket_view=True)
        loss_of = ClipLoss(gather_with_grad=True, rank=world.rank, world_size=world.world_size)
        for step in range(3):
            optimizer.zero_grad()
            with model.no_sync():
                loss_of(**model(*rows_of(world.rank, world.world_size, step))).backward()
            loss_of(**model(*rows_of(world.rank, world.world_size, step + 3))).backward()
            (spread_clip if is_spread else torch_clip)(model.parameters())
            optimizer.step()
        parts = table.detach(), table.grad, optimizer.state[table]["exp_avg"]
        answers.append([whole_tensor(part).clone() for part in parts])
    return answers


def outputs_of(model, world, **options):
    """Outputs and one gradient of a bare model and of the same one spread."""
    images, texts = tiny_batch(2, context_length=getattr(model, "context_length", 16), seed=7)
    answers = []
    for one in (model, spread(copy.deepcopy(model), world, **options)):
        output = one(images, texts)
        values = output.values() if isinstance(output, dict) else output
        tensors = [value for value in values if value is not None]
        sum(tensor.float().square().mean() for tensor in tensors).backward()
        gradient = next(p.grad for name, p in one.named_parameters() if name == "visual.proj" or "positional" in name)
        answers.append(([tensor.detach() for tensor in tensors], whole_tensor(gradient).detach()))
    return answers


def nan_on_one_rank(world):
    """The norm that each rank sees when only the last one's gradient is broken."""
    model = spread(make_clip(), world)
    loss_of = ClipLoss(gather_with_grad=True, rank=world.rank, world_size=world.world_size)
    loss_of(**model(*rows_of(world.rank, world.world_size, 0))).backward()
    if world.rank == world.world_size - 1:
        gradients = [p.grad.to_local() for p in model.parameters() if hasattr(p.grad, "to_local")]
        next(gradient for gradient in gradients if gradient.numel()).view(-1)[0] = float("nan")
    return clip_gradients(model.parameters(), None)


class NothingSeen(TorchDispatchMode):
    """Collects the operators that are given a tensor of which this rank holds nothing."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            own = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            if isinstance(own, torch.Tensor) and own.numel() == 0:
                self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def clip_parameters_of_few_rows(world):
    """Clip where only rank 0 holds a part, in half precision; give the norm, what is left and who met nothing."""
    mesh = init_device_mesh("cpu", (world.world_size,))
    parameter = nn.Parameter(distribute_tensor(torch.zeros(1, 2, dtype=torch.bfloat16), mesh, [Shard(0)]))
    parameter.grad = distribute_tensor(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16), mesh, [Shard(0)])
    with NothingSeen() as seen:
        norm = clip_gradients([parameter], 0.5)
    # A local view of the gradient is taken to look at its size; nothing may be computed on it.
    return norm, whole_tensor(parameter.grad), [name for name in seen.names if "view" not in name]


def spread_rank(world):
    """Do all of it."""
    warnings.simplefilter("ignore")
    answers = compare_training(world)
    answers["accumulated"] = accumulate(world)
    answers["nan"] = nan_on_one_rank(world)
    answers["trained rows"] = train_few_rows(world)
    answers["few rows"] = clip_parameters_of_few_rows(world)
    torch.manual_seed(0)
    answers["resnet"] = outputs_of(CLIP(**tiny_config(vision=RESNET)).train(), world)
    answers["coca"] = outputs_of(tiny_coca(), world)
    checkpointed = tiny_clip()
    checkpointed.set_grad_checkpointing()
    answers["checkpointed"] = outputs_of(checkpointed.train(), world)
    answers["bfloat16"] = outputs_of(tiny_clip().train(), world, param_dtype=torch.bfloat16)
    return answers
