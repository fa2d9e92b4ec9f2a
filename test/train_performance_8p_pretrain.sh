#!/usr/bin/env bash
# Pretrain CLIP on tar shards in eight processes: a short run that measures speed. `--help` lists its parameters.
set -euo pipefail

JOB=pretrain
LAUNCH=8p
DEFAULT_EPOCHS=3
# shellcheck source=test/wrapper_lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/wrapper_lib.sh"
run_wrapper "$@"
