"""Tiny recipes and batches, with the gradient that a step puts into a model, for tests of what a task computes."""

import contextlib

import torch
import torch.distributed as dist

from draws import Draws, count_draws, make_random, sort_draws
from open_clip.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from open_clip.transformer.texts import Texts
from tiny_models import tiny_batch, tiny_clip, tiny_coca
from training.data import Batch
from training.device.cpu import CpuDevice
from training.distributed import World, average_gradients, mean_over_processes, unwrap_model, wrap_model
from training.loop.accumulate import backward_batches
from training.loop.statistics import RunningStatistics
from training.tasks import ClipTask, CoCaTask, DistillTask, SigLipTask

PIXELS = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
ALONE = World(0, 0, 1, 1)
CPU = CpuDevice()
RECIPES = ("clip", "siglip", "coca", "coca captions only", "distill", "own")


class OwnTask(ClipTask):
    """A recipe with parameters of its own, in every kind of loss: it also compares features that it has turned."""

    name = "own"

    def __init__(self, model, loss, *, world, **options):
        super().__init__(model, loss, **options)
        torch.manual_seed(3)
        self.own = torch.nn.Linear(64, 64).double()
        self._world = world

    def step_totals(self, batches):
        rows = torch.tensor(sum(len(batch.images) for batch in batches), dtype=torch.float32)
        return {"rows": mean_over_processes(rows, self._world)}

    def joint_losses(self, outputs):
        features = {name: value for name, value in outputs.items() if name != "rows"}
        turned = features | {"image_features": self.own(features["image_features"])}
        return super().joint_losses(features) | {"turned_loss": self.loss(**turned)}

    def row_losses(self, outputs):
        return {"small_loss": self.own(outputs["text_features"]).square().sum().float() / outputs["rows"]}

    def parameter_losses(self):
        return {"weight_loss": 0.1 * self.own.weight.square().sum()}


def make_task(recipe, world=ALONE, wrap=lambda model: model):
    """Make a recipe with a tiny model in float64, so that only the order of sums can differ."""
    options = {"rank": world.rank, "world_size": world.world_size}
    shared = {"gather_with_grad": True, **options}
    if recipe.startswith("coca"):
        model = wrap(tiny_coca(change=0.02).double().train())
        weight = 0.0 if recipe == "coca captions only" else 1.0
        return CoCaTask(model, CoCaLoss(2.0, weight, **shared), world=world, **PIXELS)
    bias = {"init_logit_bias": -10.0} if recipe == "siglip" else {}
    model = wrap(tiny_clip(output_dict=True, **bias).double().train())
    if recipe == "siglip":
        return SigLipTask(model, SigLipLoss(**options), **PIXELS)
    if recipe == "distill":
        teacher = tiny_clip(seed=9, output_dict=True).double()
        return DistillTask(
            model, DistillClipLoss(**shared), teacher=teacher, to_teacher=lambda images: images, **PIXELS
        )
    if recipe == "own":
        return OwnTask(model, ClipLoss(**shared), world=world, **PIXELS)
    return ClipTask(model, ClipLoss(**shared), **PIXELS)


def make_batch(rows=12, recipe="clip"):
    """Make prepared rows with captions of different lengths."""
    images, texts = tiny_batch(rows, 15 if recipe.startswith("coca") else 16)
    return Batch(images.double(), Texts(texts))


def cut(batch, sizes):
    """Cut a batch into parts of these sizes."""
    parts = zip(batch.images.split(sizes), batch.texts.ids.split(sizes), strict=True)
    return [Batch(images, Texts(ids)) for images, ids in parts]


def losses_and_gradients(task, batches, device=CPU):
    """Give a step's named losses and the gradients it leaves, by name; none for a parameter without one."""
    task.trained.zero_grad()
    losses = backward_batches(
        task,
        batches,
        contextlib.nullcontext,
        lambda loss, is_last: loss.backward(),
        device,
        RunningStatistics(task.trained),
    )
    gradients = {name.removeprefix("module."): p.grad for name, p in task.model.named_parameters()}
    if task.own is not None:
        size = dist.get_world_size() if dist.is_initialized() else 1
        average_gradients(task.own.parameters(), World(0, 0, size, size))
        gradients |= {f"task.{name}": p.grad for name, p in task.own.named_parameters()}
    return losses, {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}


def random_step(task, batches, device=CPU):
    """Take a step of several batches of a random model; give its answer and what each batch drew in both passes."""
    counts = count_draws(task, batches[0])
    with Draws() as draws:
        answer = losses_and_gradients(task, batches, device)
    return answer, *sort_draws(draws.drawn, counts, len(batches))


def assert_same_step(first, second, atol=1e-12):
    """Assert that two answers of :func:`losses_and_gradients` are equal up to the order of sums.

    Losses are summed in fp32, so they and what follows from them agree to its rounding.
    """
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(value.double(), other[name].double(), atol=atol, rtol=2e-6, msg=name)


def step_of_rank(world, rows):
    """Take one step of each recipe on this rank's rows, whole and in two parts."""
    rank, world_size, answers = world.rank, world.world_size, {}
    for recipe in RECIPES:
        task = make_task(recipe, world, lambda model: wrap_model(model, torch.device("cpu"), world))
        locked = make_task(recipe, world, lambda model: wrap_model(lock(model), torch.device("cpu"), world))
        for name, parts in (("whole", 1), ("parts", 2)):
            answers[recipe, name] = losses_and_gradients(task, rank_batches(recipe, rank, world_size, rows, parts))
        if task.row_outputs():
            make_random(unwrap_model(task.model))
            # Each rank draws its own, as in a run.
            torch.manual_seed(rank)
            answers[recipe, "random"] = random_step(task, rank_batches(recipe, rank, world_size, rows, 2))
        answers[recipe, "locked"] = losses_and_gradients(locked, rank_batches(recipe, rank, world_size, rows, 2))
        buffers = locked.model._get_ddp_logging_data()["total_parameter_size_bytes"]
        answers[recipe, "bytes"] = (buffers, sum(p.numel() * 8 for p in locked.model.parameters() if p.requires_grad))
    return answers


def rank_batches(recipe, rank, world_size, rows, parts):
    """Give a rank its rows of each of the parts of a step; over all ranks a part is a run of neighbouring rows."""
    share = rows // (world_size * parts)
    pieces = cut(make_batch(rows, recipe), [share] * (world_size * parts))
    return [pieces[part * world_size + rank] for part in range(parts)]


def lock(model):
    """Freeze the image tower."""
    model.lock_image_tower()
    return model
