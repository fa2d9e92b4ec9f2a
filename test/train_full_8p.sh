#!/usr/bin/env bash
# Fine-tune CLIP on a Flickr30k folder in eight processes: the full job. `--help` lists its parameters.
set -euo pipefail

JOB=finetune
LAUNCH=8p
DEFAULT_EPOCHS=20
# shellcheck source=test/wrapper_lib.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/wrapper_lib.sh"
run_wrapper "$@"
