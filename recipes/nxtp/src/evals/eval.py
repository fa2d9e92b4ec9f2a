"""What eval_hook.py runs: recall, precision and F1 of the labels of cfg.eval_ckpt_path on cfg.eval_data_name."""

from training.dialects.nxtp import evaluate


def main(cfg):
    """Evaluate; returns the exit status."""
    return evaluate(cfg)
