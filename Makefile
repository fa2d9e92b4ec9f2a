# The commands of this project; `make help` lists them. make VENV=DIR PYTHON=FILE EXTRAS=npu choose the environment.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?=
EXTRAS ?=
CONSTRAINTS ?= constraints/ci.txt
OLDEST_DIR ?= .cache/oldest
PYTHON310 ?= python3.10
PEER_DIR ?= .cache/peer
TOWERS_DIR ?= .cache/towers
PYTEST_FLAGS ?=
# Tests at a time; each takes a core and up to 4 GB.
TEST_JOBS ?= 2
BIN := $(VENV)/bin
comma := ,
export PYTHON CONSTRAINTS

# The quickstart's recipe, here and nowhere else.
DEVICE ?= auto
QUICKSTART_SET := examples/flickr30k-emoji
QUICKSTART_DIR := test/output/quickstart
QUICKSTART_PARAMETERS := --pretrain_model=none --model=ViT-tiny-16-64 --batch_size=128 --epochs=5 --lr=1e-3 \
	--warmup=50 --workers=2

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.ready-run ## make the virtual environment and install what training needs

INSTALLED_FROM := setup.py requirements.txt $(CONSTRAINTS) tools/setup_venv.sh
$(VENV)/.ready-run: $(INSTALLED_FROM)
	@tools/setup_venv.sh "$(VENV)" "fast$(EXTRAS:%=$(comma)%)"
	@touch $@
$(VENV)/.ready-test: $(INSTALLED_FROM)
	@tools/setup_venv.sh "$(VENV)" "test$(EXTRAS:%=$(comma)%)"
	@touch $@ $(VENV)/.ready-run
$(VENV)/.ready-dev: $(INSTALLED_FROM)
	@tools/setup_venv.sh "$(VENV)" "dev$(EXTRAS:%=$(comma)%)"
	@touch $@ $(VENV)/.ready-test $(VENV)/.ready-run

.PHONY: quickstart
quickstart: setup ## train on the small image set that ships here, on the best device found
	@mkdir -p $(QUICKSTART_DIR)/data
	@ln -sfn "$(abspath $(QUICKSTART_SET))"/{flickr30k-images,results_20130124.token} $(QUICKSTART_DIR)/data/
	@$(BIN)/python tools/flickr30k_handle.py --data_path $(QUICKSTART_DIR)/data
	@PYTHON="$(abspath $(BIN)/python)" bash test/train_full_1p.sh --data_path=$(QUICKSTART_DIR)/data \
		--output_dir=$(QUICKSTART_DIR) --device=$(DEVICE) $(QUICKSTART_PARAMETERS)

.PHONY: format
format: $(VENV)/.ready-dev ## lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lint
lint: type ## check layout, style, imports, spelling and shell scripts
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-cache
	$(BIN)/codespell $$(git ls-files ':!examples' ':!constraints' ':!*.json' ':!*.gz')
	$(BIN)/shellcheck -x $$(git ls-files '*.sh' .ci/run 'recipes/*/scripts/*')

.PHONY: type
type: $(VENV)/.ready-dev ## check types
	$(BIN)/mypy
	MYPYPATH=src:tools $(BIN)/mypy tools
	MYPYPATH=src:. $(BIN)/mypy benchmarks

.PHONY: test
test: npu-simulator ## the tests that need no other package and little time
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal -m "not slow and not parity" $(PYTEST_FLAGS)

# The suites on the oldest pair that is tested; PYTHON310=FILE names the interpreter.
.PHONY: test-oldest
test-oldest: ## `make test` with Python 3.10, torch 2.9 and all requirements at their floors
	@$(MAKE) test VENV="$(OLDEST_DIR)" PYTHON="$(PYTHON310)" CONSTRAINTS=constraints/oldest.txt

.PHONY: test-all
test-all: npu-simulator ## all tests but the comparison with the peer
	$(BIN)/python -m pytest -m "not parity" $(PYTEST_FLAGS)

.PHONY: faults
faults: npu-simulator ## kills, full disks, broken and hostile files
	$(BIN)/python -m pytest -m faults $(PYTEST_FLAGS)

.PHONY: parity
parity: $(VENV)/.ready-test $(PEER_DIR)/.ready ## compare with open_clip_torch 3.3.0, installed into a folder of its own
	OPENCLIP_PEER_PATH="$(abspath $(PEER_DIR))" $(BIN)/python -m pytest -m parity $(PYTEST_FLAGS)

.PHONY: parity-table
parity-table: $(VENV)/.ready-test $(PEER_DIR)/.ready $(TOWERS_DIR)/.ready ## measure the differences from the peer and write docs/parity.md anew
	OPENCLIP_PEER_PATH="$(abspath $(PEER_DIR))" PYTHONPATH="$(abspath $(TOWERS_DIR))" \
		$(BIN)/python tools/parity_table.py

$(PEER_DIR)/.ready: constraints/peer.txt | $(VENV)/.ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target "$(PEER_DIR)" --requirement constraints/peer.txt
	@touch $@

.PHONY: towers
towers: $(VENV)/.ready-test $(PEER_DIR)/.ready $(TOWERS_DIR)/.ready ## the tests of timm and Hugging Face towers
	OPENCLIP_PEER_PATH="$(abspath $(PEER_DIR))" PYTHONPATH="$(abspath $(TOWERS_DIR))" \
		$(BIN)/python -m pytest -m towers $(PYTEST_FLAGS)

$(TOWERS_DIR)/.ready: constraints/towers.txt | $(VENV)/.ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target "$(TOWERS_DIR)" --requirement constraints/towers.txt
	@touch $@

.PHONY: npu-simulator
npu-simulator: $(VENV)/.ready-test ## build the simulated npu of the tests
	$(BIN)/python test/support/npu_simulator/build.py --if-possible

.PHONY: docs
docs: setup ## write the generated papers anew
	$(BIN)/python tools/public_addresses.py --write
	$(BIN)/python tools/flag_pages.py

.PHONY: scaling
scaling: setup ## compute the tables of docs/scaling.md anew
	$(BIN)/python tools/scaling_table.py

# make bench ROWS='step-* loss' ROUNDS=3 chooses rows and rounds; only a whole run is published in docs/performance.md.
ROWS ?=
ROUNDS ?=
BENCH_FLAGS ?=
BENCH_BUDGET_S ?= 1500

.PHONY: bench
bench: $(VENV)/.ready-test $(PEER_DIR)/.ready ## measure speed and memory against the peer, row by row
	OPENCLIP_PEER_PATH="$(abspath $(PEER_DIR))" $(BIN)/python -m benchmarks \
		--json $(if $(strip $(ROWS)$(BENCH_FLAGS)),test/output/bench.json,docs/performance.json) \
		--budget-s $(BENCH_BUDGET_S) $(ROUNDS:%=--rounds %) $(BENCH_FLAGS) $(ROWS)
	$(BIN)/python -m benchmarks.pages

# make bench-wheels TORCH=2.11 PYTHON_VERSION=3.12 ARCH=x86_64 ONLY="ftfy wcwidth" says what the other machine has.
WHEELS ?= .cache/wheels
BENCH_DIR ?= .cache/bench
BENCH_RESULT ?= test/output/bench-device.json
TORCH ?= 2.11
PYTHON_VERSION ?= 3.12
ARCH ?= x86_64
ONLY ?=

.PHONY: bench-wheels
bench-wheels: $(VENV)/.ready-test ## collect the wheels that bench-device needs on a machine without a network
	$(BIN)/python -m benchmarks.wheels collect "$(WHEELS)" --torch $(TORCH) --python-version $(PYTHON_VERSION) \
		--arch $(ARCH) --only $(ONLY)

.PHONY: bench-device
bench-device: ## measure on an accelerator within 8 minutes; needs python, torch and the wheels alone
	$(or $(PYTHON),python3) -m benchmarks.wheels install "$(WHEELS)" --into "$(BENCH_DIR)"
	@mkdir -p "$(dir $(BENCH_RESULT))"
	OPENCLIP_PEER_PATH="$(abspath $(BENCH_DIR))/peer" PYTHONPATH="$(abspath $(BENCH_DIR))/site" \
		$(or $(PYTHON),python3) -m benchmarks --device $(DEVICE) --json "$(BENCH_RESULT)" \
		$(ROUNDS:%=--rounds %) $(BENCH_FLAGS) $(ROWS)

.PHONY: clean
clean: ## remove what building, testing and checking left; keeps the environment and test/output
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src test tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the environment and the peer too
	rm -rf "$(VENV)" .cache
