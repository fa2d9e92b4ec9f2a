"""Door to ``training.scheduler``. No logic."""

from training.scheduler import assign_learning_rate as assign_learning_rate
from training.scheduler import const_lr as const_lr
from training.scheduler import const_lr_cooldown as const_lr_cooldown
from training.scheduler import cosine_lr as cosine_lr
