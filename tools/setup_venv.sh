#!/usr/bin/env bash
# Make a virtual environment and install this project into it. Called by make, once for each set of extras.
# usage: tools/setup_venv.sh VENV EXTRAS, EXTRAS as in setup.py ("test", "dev,npu", or ""). PYTHON=FILE chooses the interpreter.
set -euo pipefail

cd "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")"
venv=$1
extras=$2
oldest="3, 10"

fail() {
    printf '[Error] %s\n' "$1" >&2
    exit 2
}

fits() { # fits INTERPRETER
    "$1" -c "import sys; sys.exit(sys.version_info < ($oldest))" >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in python3.12 python3.11 python3.10 python3 python3.13 python; do
        if fits "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    fail "no Python of at least ${oldest/, /.} was found. Install Python 3.12, 3.11 or 3.10, or name one: make PYTHON=/path/to/python3.12 ..."
}

if [[ ! -x $venv/bin/python ]]; then
    if [[ -n ${PYTHON:-} ]]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON does not run or is older than ${oldest/, /.}."
        python=$PYTHON
    else
        python=$(find_python)
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments; on Debian or Ubuntu install the package python3-venv of its version."
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
echo "Installing into $venv; the first time this fetches torch, which takes minutes"
progress=()
[[ -t 1 ]] || progress=(--quiet)
"$venv/bin/python" -m pip install "${progress[@]}" --disable-pip-version-check \
    --constraint "${CONSTRAINTS:-constraints/ci.txt}" --editable ".${extras:+[$extras]}"
