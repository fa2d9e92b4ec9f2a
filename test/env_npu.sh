#!/usr/bin/env bash
# Prepare a shell for Ascend NPU: finds CANN, loads its environment, sets log levels. Source it; it does nothing where
# there is no CANN, and leaves every variable alone that is already set.

# Prints the set_env.sh of the newest layout found under the CANN root, or nothing.
_cann_set_env() {
    local info=${ASCEND_INSTALL_INFO:-/etc/Ascend/ascend_cann_install.info} root="" candidate
    if [[ -r $info ]]; then
        root=$(sed -n 's/^Install_Path=//p' "$info" | head -n 1)
    fi
    root=${root:-${ASCEND_ROOT:-/usr/local/Ascend}}
    for candidate in "$root/cann/set_env.sh" "$root/ascend-toolkit/set_env.sh" "$root/nnae/set_env.sh"; do
        if [[ -r $candidate ]]; then
            printf '%s\n' "$candidate"
            return 0
        fi
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
    if [[ -z ${ASCEND_HOME_PATH:-} ]]; then
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
    export CPU_AFFINITY_CONF="${CPU_AFFINITY_CONF:-2}"
    _quiet_device_logs
}

_prepare_npu
unset -f _cann_set_env _source_relaxed _quiet_device_logs _prepare_npu
