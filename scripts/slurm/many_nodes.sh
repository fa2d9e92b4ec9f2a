#!/bin/bash
# Train on several nodes: srun starts one process a device, and the trainer reads its place from Slurm's variables.
# Before the time limit the run saves, ends with status 75 and is put back into the queue, where it goes on by itself.
#
#   sbatch --nodes=4 --ntasks-per-node=8 --gres=gpu:8 scripts/slurm/many_nodes.sh --name RUN --train-data ...
#
# Every word after the script's name is a flag of the trainer; --name is needed, for the run to find itself again.
# --logs-dir must be on a file system that all nodes share. PYTHON names the interpreter.
#SBATCH --job-name=open-clip
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append

set -u
# Slurm runs a copy of this file from its spool folder: the sources are found from where sbatch was typed.
here=${SLURM_SUBMIT_DIR:-$(pwd)}
source "${here}/scripts/slurm/common.sh"

need_name "$@"
# One status other than 0 ends the other processes: none is left waiting for one that is gone.
run_and_requeue srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m training.main "$@" --resume latest
