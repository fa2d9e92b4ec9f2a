"""Door to ``training.profiler``. No logic."""

from training.profiler import count_params as count_params
from training.profiler import main as main
from training.profiler import profile_model as profile_model
from training.profiler import profile_torch as profile_torch
from training.profiler import profile_torch_image as profile_torch_image
from training.profiler import profile_torch_text as profile_torch_text

if __name__ == "__main__":
    main()
