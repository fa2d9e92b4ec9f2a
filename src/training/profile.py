"""Door: the profiler under the name it had in 2.x. No logic."""

from training.profiler import count_params as count_params
from training.profiler import main as main
from training.profiler import profile_model as profile_model

if __name__ == "__main__":
    main()
