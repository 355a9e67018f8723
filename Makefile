# latentline: `make run` and `make test` do everything on a fresh clone; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := bash

PROFILE ?= quick
DATA ?= auto
HOME_DIR ?= out
SEED ?= 0
# VARIANTS=a,b trains only those; empty trains all.
VARIANTS ?=

READY := .venv/.ready
BIN := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv (Python 3.11) from the lock and install the project into it

$(READY): requirements/lock.txt requirements/install.py requirements/venv.sh setup.py
	@bash requirements/venv.sh
	@touch $@

run: $(READY) ## train, evaluate, compare and push every variant (VARIANTS= PROFILE= DATA= HOME_DIR= SEED=)
	@$(BIN)/latentline run --profile $(PROFILE) --data $(DATA) --home $(HOME_DIR) --seed $(SEED) \
	  $(if $(VARIANTS),--variants $(VARIANTS))

# Two processes: most tests wait for imports and child processes, which keep one core busy each.
# TEST_OPTIONS="--cov --durations=15" also measures coverage against its floor and lists the slowest tests.
TEST_OPTIONS ?=
test: $(READY) ## unit, contract and end-to-end tests (TEST_OPTIONS=)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(TEST_OPTIONS)

test-long: $(READY) ## documented commands, the operation of a home, tfx's command, all variants on two devices
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m long tests/e2e tests/pipeline tests/trainer

test-cluster: $(READY) ## every container command of the compiled pipeline as a process, against MariaDB
	@$(BIN)/python -m pytest -m cluster -s tests/kubeflow

# JOB_ENDPOINT=HOST:PORT sends the jobs to the job server of an engine, such as Flink's, instead of Beam's own.
JOB_ENDPOINT ?=
test-beam: $(READY) ## Beam's components on a job server, with workers that lack the project (JOB_ENDPOINT=)
	@LATENTLINE_JOB_ENDPOINT=$(JOB_ENDPOINT) $(BIN)/python -m pytest -m beam tests/e2e/test_beam.py

FAULTS := tests/faults/test_damage.py tests/faults/test_moved_home.py tests/faults/test_disk.py \
  tests/faults/test_nights.py tests/e2e/test_data_sets.py
KILLS := tests/faults/test_kill.py tests/faults/test_time_and_company.py tests/faults/test_operations.py

faults: $(READY) ## kill, fill, corrupt and withdraw what real runs need; a table of what became of them
	@mkdir -p out/faults && rm -f out/faults/*.json
	@$(BIN)/python -m pytest -m faults $(KILLS) --faults-tallies out/faults/kills.json & \
	  $(BIN)/python -m pytest -m faults $(FAULTS) --faults-tallies out/faults/damage.json; \
	  failed=$$?; wait $$! || failed=1; \
	  $(BIN)/python tests/support/faults_table.py out/faults/*.json; exit $$failed

# Every operation of push, rollback, promotion and prune is struck in a process of its own.
faults-all: $(READY) ## all faults of all suites, with real processes: docs/FAULTS.md (two hours)
	@mkdir -p out/faults && rm -f out/faults/*.json
	@$(BIN)/python -m pytest -m faults $(KILLS) --real-processes --faults-tallies out/faults/kills.json & \
	  $(BIN)/python -m pytest -m faults $(FAULTS) --faults-tallies out/faults/damage.json && \
	  $(BIN)/python -m pytest -m "section and not faults" --faults-tallies out/faults/suites.json; \
	  failed=$$?; wait $$! || failed=1; \
	  $(BIN)/python tests/support/faults_table.py out/faults/*.json --page docs/FAULTS.md; exit $$failed

# PAGE=docs/NIGHTS.md writes the transcript there.
PAGE ?=
nights: $(READY) ## ten nights of retraining, four of them bad, and what an operator reads in the morning
	@rm -rf out/nights
	@$(BIN)/python tests/faults/nights.py $(if $(PAGE),--page $(PAGE))

fuzz: $(READY) ## more than 200,000 odd inputs: IDX files, settings, the arguments of a node
	@$(BIN)/python -m pytest -m fuzz tests/fuzz/test_idx.py & \
	  $(BIN)/python -m pytest -m fuzz tests/fuzz --ignore tests/fuzz/test_idx.py; failed=$$?; \
	  wait $$! || failed=1; exit $$failed

# PAGE=docs/GATE.md writes the tables and plots there.
simulate-gate: $(READY) ## the gate over simulated years of nights, against what it promises
	@$(BIN)/python -m benchmarks.gate_simulation $(if $(PAGE),--page $(PAGE))

SEEDS ?= 20
measure-noise: $(READY) ## how far trainings differ by chance, for the gate (PROFILE= SEEDS= VARIANTS=)
	@$(BIN)/python -m benchmarks.measure_noise --profile $(PROFILE) --seeds $(SEEDS) \
	  $(if $(VARIANTS),--variants $(VARIANTS))

lint: $(READY) ## ruff (format, lint) and mypy
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

hooks: $(READY) ## check every commit of this clone as `make lint` does
	@$(BIN)/pre-commit install

ONLY ?=
reproduce: $(READY) ## train with the sources' recipes, compare with their figures: docs/REPRODUCTION.md (ONLY=a,b)
	@$(BIN)/python -m benchmarks.reproduction.reproduce $(if $(ONLY),--only $(ONLY))

# PEERS=1 also times PyTorch and JAX, which it installs (7 GB) into out/benchmarks/peers.
PEERS ?=
bench: $(READY) ## speed as ratios: the pipeline against TFX's own example, the loop against others (PEERS=1)
	@$(BIN)/python benchmarks/pipeline.py
	@mkdir -p out/benchmarks
	@$(BIN)/python benchmarks/loop.py --json out/benchmarks/loop.json $(if $(PEERS),--peers)

compile: $(READY) ## pipeline.yaml for Kubeflow (VARIANTS= PROFILE=)
	@$(BIN)/python kubeflow/compile.py --output pipeline.yaml --profile $(PROFILE) \
	  $(if $(VARIANTS),--variants $(VARIANTS))

TARGET ?= gpu
TAG ?= latentline:dev
image: ## the container image (TARGET=cpu or gpu, TAG=latentline:dev)
	docker build --file kubeflow/Dockerfile --target $(TARGET) --tag $(TAG) .

lock: $(READY) ## resolve requirements/direct.in into requirements/lock.txt anew
	@$(BIN)/python requirements/lock.py

clean: ## remove what runs have made (out/), not .venv
	rm -rf out

.PHONY: help setup run test test-long test-cluster test-beam faults faults-all nights fuzz simulate-gate measure-noise lint hooks reproduce bench compile image lock clean
