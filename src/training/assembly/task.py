"""Choose the recipe of a run, and make it for the run's model. What a recipe computes is `tasks`'."""

from torch import nn

from open_clip.errors import ConfigError, printable
from open_clip.protocols import WritesCaptions
from training.params import RunParams
from training.params.plugins import class_names, find_class
from training.tasks import ClipTask, CoCaTask, DistillTask, Setup, SigLipTask, Task


def choose_recipe(params: RunParams, *, writes_captions: bool) -> type[Task]:
    """Find the recipe that flags and model ask for.

    Args:
        params: The run's flags; without ``--task`` those that upstream has decide, as there.
        writes_captions: Whether the model is a captioner.

    Raises:
        ConfigError: There is no such recipe.
    """
    word = params.recipe.task
    if word is not None:
        found = find_class(word, "--task", "training.tasks")
        if not issubclass(found, Task):
            raise ConfigError(f"--task {printable(word, 200)}: this is no recipe; derive it from training.tasks.Task.")
        return found
    if params.recipe.distill_model is not None:
        return DistillTask
    if params.recipe.siglip:
        return SigLipTask
    return CoCaTask if writes_captions else ClipTask


def recipe_for(params: RunParams, model: nn.Module) -> type[Task]:
    """Find the recipe for a bare model.

    Raises:
        ConfigError: It does not fit the model.
    """
    recipe = choose_recipe(params, writes_captions=isinstance(model, WritesCaptions))
    reason = recipe.why_not(model)
    if reason is not None:
        asked = {SigLipTask: "--siglip", DistillTask: "--distill-model"}.get(recipe)
        asked = asked if params.recipe.task is None else f"--task {printable(params.recipe.task, 200)}"
        name, known = printable(params.model.model, 200), ", ".join(class_names("training.tasks"))
        raise ConfigError(
            f"{asked or f'the recipe {recipe.name}'} cannot train {name}: {reason}. Choose another --model, or "
            + (f"leave {asked.split()[0]} out." if asked else f"another recipe with --task: {known}.")
        )
    return recipe


def build_task(setup: Setup) -> Task:
    """Make the recipe for a bare model.

    Raises:
        ConfigError: flags and model do not go together.
    """
    recipe = recipe_for(setup.params, setup.model)
    recipe.check(setup.params, setup.world)
    return recipe.build(setup)
