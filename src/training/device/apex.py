"""Mixed precision by apex (NVIDIA's, or Ascend's build of it), for runs that must repeat an old recipe.

Uses apex's public names only: ``amp.initialize, scale_loss, master_params, state_dict, load_state_dict``. Nothing here
runs unless ``apex_o1``, ``apex_o2`` or ``npu_amp`` is asked for.

Source: NVIDIA/apex, apex/amp/_process_optimizer.py, handle.py, scaler.py; Ascend/apex patches device words, overflow
checks and ``combine_grad``, which is not used here.
"""

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from open_clip.errors import MissingDependency
from training.device.mixed import MixedPrecision, ScalerState
from training.device.precision import Precision

_logger = logging.getLogger(__name__)


def import_amp() -> Any:
    """Import ``apex.amp``.

    Raises:
        MissingDependency: apex is not installed, or something else of that name is.
    """
    try:
        from apex import amp
    except ImportError as error:
        raise MissingDependency(
            f"--precision apex_o1, apex_o2 and npu_amp need apex, which does not import here ({error}).\n"
            "--precision amp does the same with torch alone. To repeat an old run exactly, build apex from source: "
            "NVIDIA/apex for GPUs, Ascend/apex for NPUs (PyPI's `apex` is another project)."
        ) from error
    return amp


class ApexPrecision(MixedPrecision):
    """apex O1 (patched functions) or O2 (fp16 model, fp32 masters), with a fixed or a dynamic loss scale.

    Under O2 the optimizer works on fp32 masters that apex makes from the model's weights. They are saved whole with the
    state, so that a resumed run goes on with the bits it stopped with, and rebuilt from the model otherwise.
    """

    def __init__(self, precision: Precision, torch_device: torch.device, loss_scale: float | None) -> None:
        super().__init__(precision, torch_device)
        self._amp = import_amp()
        self._loss_scale: float | str = "dynamic" if loss_scale is None else loss_scale
        self._optimizer: Optimizer | None = None
        self._masters: list[tuple[Tensor, Tensor]] = []
        self._own: list[Tensor] = []
        self._has_overflowed = False

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Hand model and optimizer to ``amp.initialize`` and note which master belongs to which weight.

        Raises:
            MissingDependency: apex was built without a part that this run needs.
        """
        weights = _group_parameters(optimizer)
        try:
            model, optimizer = self._amp.initialize(
                model, optimizer, opt_level=self.precision.apex_level, loss_scale=self._loss_scale, verbosity=0
            )
        except ModuleNotFoundError as error:
            # Ascend's on chips that saturate asks a module of its own for overflows, under a dynamic scale only.
            raise MissingDependency(
                f"--precision {self.precision.requested}: apex was built without a part of it ({error}). Build apex "
                "with that part, or give a fixed scale, --loss-scale 512."
            ) from error
        # Otherwise apex makes the masters at the first backward pass, after weights were loaded and a state was saved.
        optimizer.zero_grad()
        # It swaps them into the groups in place, so positions tell which is whose.
        swapped = list(zip(weights, _group_parameters(optimizer), strict=True))
        self._masters = [(weight, master) for weight, master in swapped if weight is not master]
        self._own = [weight for weight, master in swapped if weight is master]
        self._optimizer = optimizer
        return model, optimizer

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context for the forward pass, after apex has forgotten the fp16 copies of the weights it keeps.

        O1 keeps them from one forward pass without gradient to the next, even where the weights changed in between.
        """
        if self._optimizer is not None:
            # Closing this empties the copies, and with no optimizer and no unscaling it does nothing else.
            with self._amp.scale_loss(torch.zeros(()), [], delay_unscale=True):
                pass
        return super().autocast()

    def clear_gradients(self, optimizer: Optimizer) -> None:
        """Forget the gradients of the weights and of their masters.

        apex's own ``zero_grad`` takes no ``set_to_none`` and detaches in place, which views of DDP's buckets refuse.
        """
        for weight, master in self._masters:
            weight.grad = master.grad = None
        for weight in self._own:
            weight.grad = None

    def backward(self, loss: Tensor, is_last: bool = True) -> None:
        """Add the gradients of the scaled loss; apex brings their sum to its true size after the last pass.

        After each pass apex would move the gradients away, so that DDP exchanged those of the last pass alone.
        """
        before = self.scale()
        with self._amp.scale_loss(loss, self._optimizer, delay_unscale=not is_last) as scaled:
            scaled.backward()
        after = self.scale()
        self._has_overflowed |= before is not None and after is not None and after < before

    def parameters_to_clip(self, model: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
        """List the fp32 masters: the model's own gradients are not what the optimizer uses."""
        return list(self._amp.master_params(optimizer))

    def gradient_fault(self, model: nn.Module, optimizer: Optimizer, norm: Tensor | None = None) -> Tensor:
        """Tell whether a gradient is not finite under a fixed scale; apex itself answers overflows of a dynamic one.

        An overflow under a scale below 1 is not the scale's doing.
        """
        if self._loss_scale == "dynamic":
            is_faulty = self._has_overflowed and (self.scale() or 0.0) < 1
            return torch.full((), is_faulty, dtype=torch.bool, device=self._device)
        return super().gradient_fault(model, optimizer, norm)

    def step(self, optimizer: Optimizer, skip: Tensor | bool = False) -> None:
        """Update the weights unless told not to, or unless apex found an overflow."""
        # An overflow makes apex turn the next call into one that does nothing; left out, the one after would be that.
        if self._has_overflowed or not skip:
            optimizer.step()
        self._has_overflowed = False

    def scale(self) -> float | None:
        """Return the present loss scale."""
        scalers = self._amp.state_dict()
        return float(scalers["loss_scaler0"]["loss_scale"]) if "loss_scaler0" in scalers else None

    @torch.no_grad()
    def keep_bounds(self) -> None:
        """Give the masters of single numbers, which alone have bounds, what the bounds made of them in the model."""
        for weight, master in self._masters:
            if weight.numel() == 1:
                master.copy_(torch.where(master.to(weight.dtype) == weight, master, weight.to(master.dtype)))

    @torch.no_grad()
    def refresh_masters(self) -> None:
        """Copy the model's weights into the masters; else the next step would put the old weights back."""
        for weight, master in self._masters:
            master.copy_(weight)

    def state_dict(self) -> ScalerState:
        """Return apex's scaler states and the fp32 masters."""
        masters = [master.detach().cpu() for _, master in self._masters]
        return {"apex": {name: dict(value) for name, value in self._amp.state_dict().items()}, "masters": masters}

    @torch.no_grad()
    def load_state_dict(self, state: ScalerState) -> None:
        """Restore the scalers and the masters, where the state has them; a fixed scale stays as this run asked."""
        if "apex" in state:
            own = {} if self._loss_scale == "dynamic" else {"loss_scale": self._loss_scale}
            self._amp.load_state_dict({name: {**scaler, **own} for name, scaler in state["apex"].items()})
        else:
            _logger.info("the checkpoint holds no apex state; starting with loss scale %s", self._loss_scale)
        saved = state.get("masters", [])
        if [tuple(value.shape) for value in saved] != [tuple(master.shape) for _, master in self._masters]:
            return
        for (_, master), value in zip(self._masters, saved, strict=True):
            master.copy_(value)


def _group_parameters(optimizer: Optimizer) -> list[Tensor]:
    """List an optimizer's parameters in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
