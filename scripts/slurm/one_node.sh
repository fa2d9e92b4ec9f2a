#!/bin/bash
# Train on one node with one process a device. Slurm gives ten minutes' notice before the time limit; the run then saves,
# ends with status 75 and is put back into the queue, where it goes on by itself.
#
#   sbatch --gres=gpu:8 scripts/slurm/one_node.sh --name RUN --train-data pairs.csv ...
#
# Every word after the script's name is a flag of the trainer; --name is needed, for the run to find itself again.
# PYTHON names the interpreter, PROCESSES the number of processes (default: one a device of the job, else 1).
#SBATCH --job-name=open-clip
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append

set -u
# Slurm runs a copy of this file from its spool folder: the sources are found from where sbatch was typed.
here=${SLURM_SUBMIT_DIR:-$(pwd)}
source "${here}/scripts/slurm/common.sh"

need_name "$@"
processes=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
# No restarts by torchrun: it would start a run again that was asked to stop. The queue does that.
run_and_requeue "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node "${processes}" \
    -m training.main "$@" --resume latest
