#!/usr/bin/env bash
# Pretrain CLIP on tar shards in eight processes, each pinned to cores of its own. `--help` lists its parameters.
set -euo pipefail

JOB=pretrain
LAUNCH=taskset
DEFAULT_EPOCHS=5
# shellcheck source=test/wrapper_lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/wrapper_lib.sh"
run_wrapper "$@"
