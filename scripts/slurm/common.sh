#!/bin/bash
# What both job scripts share: pass the notice on, tell why the run ended, and queue the job again where it can go on.

# shellcheck disable=SC2154 # set by the script that takes this one in
export PYTHONPATH="${here}/src${PYTHONPATH:+:${PYTHONPATH}}"
status_file=$(mktemp -d)/status
export OPEN_CLIP_STATUS_FILE="${status_file}"

need_name() {
    local word
    for word in "$@"; do
        case "${word}" in --name | --name=*) return ;; esac
    done
    echo "give the run a name (--name RUN): a job that is queued again finds its checkpoints by it" >&2
    exit 2
}

# Run a command; end with the trainer's own status, after queueing the job again when that is 75 (stopped, resumable).
run_and_requeue() {
    local status child
    "$@" &
    child=$!
    # shellcheck disable=SC2064 # the values are wanted now
    trap "forward_notice ${child} ${1##*/}" USR1 TERM
    wait "${child}"
    status=$?
    # A trapped signal ends `wait` early; the run is still saving then.
    while kill -0 "${child}" 2>/dev/null; do
        wait "${child}"
        status=$?
    done
    # torchrun's own status is always 1, and srun's that of the first task to fail.
    if [ "${status}" -ne 0 ] && [ -s "${status_file}" ]; then
        status=$(cat "${status_file}")
    fi
    if [ "${status}" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
        if scontrol requeue "${SLURM_JOB_ID}"; then
            echo "job ${SLURM_JOB_ID}: stopped with a checkpoint and queued again"
            exit 0
        fi
        echo "job ${SLURM_JOB_ID}: stopped with a checkpoint; scontrol could not queue it again" >&2
    fi
    exit "${status}"
}

# Ask the run's processes for a checkpoint and an orderly end; one of them is enough, they all agree. srun passes the
# signal on. torchrun would end of it, and ends its processes 30 s after a SIGTERM, saved or not: they are asked directly.
forward_notice() {
    local pids=$1
    echo "time is nearly up: asking the run to save and stop"
    [ "$2" = srun ] || pids=$(pgrep -P "$1")
    # shellcheck disable=SC2086 # one word a process
    kill -USR1 ${pids}
}
