"""The loss scale: fixed, or halved on overflow and doubled after a run of good backward passes."""

import math

import torch

_MOST = 2.0**24
_WINDOW = 2000


class LossScaler:
    """One loss scale; an overflow is looked for under a dynamic one only."""

    def __init__(self, loss_scale):
        self.dynamic = loss_scale == "dynamic"
        self._scale = 2.0**16 if self.dynamic else float(loss_scale)
        self._unskipped = 0
        self._has_overflow = False

    def loss_scale(self):
        """Give the present scale."""
        return self._scale

    def clear_overflow_state(self):
        """Forget an overflow."""
        self._has_overflow = False

    @torch.no_grad()
    def unscale(self, gradients, targets):
        """Write true gradients into targets; after an overflow the rest of them is left as it is."""
        for gradient, target in zip(gradients, targets, strict=True):
            if self._has_overflow or self._overflows(gradient):
                return
            target.copy_(gradient).mul_(1.0 / self._scale)

    @torch.no_grad()
    def unscale_onto(self, gradients, earlier, targets):
        """Write true gradients plus earlier ones into targets, as above."""
        for gradient, before, target in zip(gradients, earlier, targets, strict=True):
            if self._has_overflow or self._overflows(gradient):
                return
            target.data = gradient.to(target.dtype) / self._scale + before

    def update_scale(self):
        """Adjust the scale after a backward pass; return whether to skip the step."""
        skips = self.dynamic and self._has_overflow
        self._unskipped = 0 if skips else self._unskipped + 1
        if skips:
            self._scale /= 2.0
        elif self.dynamic and self._unskipped == _WINDOW:
            self._scale, self._unskipped = min(self._scale * 2.0, _MOST), 0
        return skips

    def state_dict(self):
        """Give the scale and its age."""
        return {"loss_scale": self._scale, "unskipped": self._unskipped}

    def load_state_dict(self, state):
        """Take the scale and its age."""
        self._scale, self._unskipped = state["loss_scale"], state["unskipped"]

    def _overflows(self, gradient):
        self._has_overflow = self.dynamic and not math.isfinite(float(gradient.float().sum()))
        return self._has_overflow
