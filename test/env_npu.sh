#!/usr/bin/env bash
# Prepare a shell for Ascend NPU: finds CANN, loads its environment, sets log levels. Source it; it does nothing where
# there is no CANN, and leaves every variable alone that is already set.

# Prints the set_env.sh of the newest layout found where CANN is installed, or nothing. CANN 8.5 and 9 stand in cann,
# 8 up to 8.3 in ascend-toolkit. The trainer's messages look in the same places (src/training/device/npu_faults.py).
_cann_set_env() {
    local info=${ASCEND_INSTALL_INFO:-/etc/Ascend/ascend_cann_install.info} root="" layout
    if [[ -r $info ]]; then
        root=$(sed -n 's/^Install_Path=//p' "$info" | head -n 1)
    fi
    # Who installs CANN without being root has it under his own folder.
    for root in "${root:-${ASCEND_ROOT:-/usr/local/Ascend}}" "${HOME:-/root}/Ascend"; do
        for layout in cann ascend-toolkit nnae; do
            if [[ -r $root/$layout/set_env.sh ]]; then
                printf '%s\n' "$root/$layout/set_env.sh"
                return 0
            fi
        done
    done
}

# CANN's script reads unset variables and lets commands fail, which a strict caller would die of.
_source_relaxed() {
    local options=$-
    set +eu
    # shellcheck disable=SC1090
    source "$1"
    [[ $options != *e* ]] || set -e
    [[ $options != *u* ]] || set -u
}

_quiet_device_logs() {
    local node
    command -v msnpureport >/dev/null 2>&1 || return 0
    for node in /dev/davinci[0-9]*; do
        [[ -e $node ]] || continue
        msnpureport -g error -d "${node#/dev/davinci}" >/dev/null 2>&1 || true
    done
    msnpureport -e disable >/dev/null 2>&1 || true
}

_prepare_npu() {
    local set_env=""
    # A path that was set before CANN moved, as an update from 8 to 9 moves it, is as good as none.
    if [[ ! -d ${ASCEND_HOME_PATH:-} ]]; then
        set_env=$(_cann_set_env)
        [[ -n $set_env ]] || return 0
        _source_relaxed "$set_env"
    fi
    export INF_NAN_MODE_ENABLE="${INF_NAN_MODE_ENABLE:-1}"
    export ASCEND_SLOG_PRINT_TO_STDOUT="${ASCEND_SLOG_PRINT_TO_STDOUT:-0}"
    export ASCEND_GLOBAL_LOG_LEVEL="${ASCEND_GLOBAL_LOG_LEVEL:-3}"
    export ASCEND_GLOBAL_EVENT_ENABLE="${ASCEND_GLOBAL_EVENT_ENABLE:-0}"
    # The default of 120 s is too short for eight processes that load a model from a slow disk.
    export HCCL_CONNECT_TIMEOUT="${HCCL_CONNECT_TIMEOUT:-300}"
    # Each card's process keeps to a share of the cores. Mode 2 would pin the main thread to one core, and every thread
    # started after that, the checkpoint writer with its hashing among them, would have to share this core with it.
    export CPU_AFFINITY_CONF="${CPU_AFFINITY_CONF:-1}"
    _quiet_device_logs
}

_prepare_npu
unset -f _cann_set_env _source_relaxed _quiet_device_logs _prepare_npu
