"""Evaluate: ./scripts/run eval_hook.py evals/eval.py configs/config_g3m.py [--dataset coco_valid] [--topk 10]."""

from training.early_signals import answer_early_signals

if __name__ == "__main__":
    answer_early_signals()  # before the imports that take long

from training.dialects.nxtp import eval_hook
from training.main import _leave

if __name__ == "__main__":
    _leave(eval_hook())
