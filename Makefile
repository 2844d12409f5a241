# What people and CI run. Everything lives in .venv; `make demo` and `make test` set it up first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Tests need no network, and one thread each: spinning worker threads cost more than they give.
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# Two workers, a file to one of them: what a module shares (a server, a browser) is made once.
SPREAD := -n 2 --dist loadfile
BASELINE := .venv/trl112/.installed
# Three need other people's files, and ppo an environment of its own.
BENCHMARKS = $(filter-out $(addprefix benchmarks.,human_votes paper_outputs ppo rude_words),$(patsubst benchmarks/%.py,benchmarks.%,$(wildcard benchmarks/[a-z]*.py)))

# The image: with docker or podman, ENGINE names another; IMAGE_ARGS="--build-arg TORCH_INDEX=...".
# podman's own format has no health check.
ENGINE ?= $(shell command -v docker || command -v podman || echo docker)
DEVICE ?= cpu

.PHONY: install demo test test-slow test-ci test-gpu check fmt image smoke-image bench bench-trl112

install: $(STAMP)  ## everything, into .venv

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: install  ## the service on the embedded model, or on MODEL=smollm2; make demo ARGS="--port 8000"
	$(BIN)/feedback-chat demo $(if $(MODEL),--model $(MODEL)) $(ARGS)

test: install  ## all but the slow tests; options: make test ARGS="-k store"
	$(TEST_ENV) $(BIN)/python -m pytest $(SPREAD) -m "not slow and not gpu" $(ARGS)

test-slow: install  ## the slow tests
	$(TEST_ENV) $(BIN)/python -m pytest -m slow $(ARGS)

test-ci: install  ## the slow tests of the service, the pages and whole cycles
	$(TEST_ENV) $(BIN)/python -m pytest $(SPREAD) -m slow tests/chat_app/pages \
		tests/chat_app/test_server.py tests/end_to_end/test_cycle.py tests/rlhf_core/cycle/test_resume.py \
		tests/rlhf_core/test_library.py $(ARGS)

test-gpu: install  ## the tests that need CUDA; without a device they skip
	$(TEST_ENV) $(BIN)/python -m pytest -m gpu $(ARGS)

check: install  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: install  ## put imports, simple lint and layout right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image:  ## the container's image feedback-chat:cpu; with DEVICE=cuda feedback-chat:cuda
	$(ENGINE) build --build-arg DEVICE=$(DEVICE) -t feedback-chat:$(DEVICE) \
		$(if $(findstring podman,$(ENGINE)),--format docker) \
		--build-arg VERSION=$(shell sed -n 's/__version__ = "\(.*\)"/\1/p' chat_app/__init__.py) \
		--build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown) $(IMAGE_ARGS) .

smoke-image: image  ## chat, vote, stop, restart, back up and restore in it, without network or rights
	ENGINE=$(ENGINE) $(PYTHON) tests/end_to_end/smoke_image.py feedback-chat:$(DEVICE)

bench: install  ## every benchmark but those that read files of others and the one below, each ending with one line of JSON
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python -m $$name --json; done

# The last TRL with a PPOTrainer needs older libraries, so it gets an environment of its own
# (gigabytes, minutes to set up). Only benchmarks/ppo.py is measured against it.
$(BASELINE): benchmarks/trl112/requirements.txt
	test -x .venv/trl112/bin/python || $(PYTHON) -m venv .venv/trl112
	.venv/trl112/bin/python -m pip install --quiet -r $<
	touch $@

bench-trl112: install $(BASELINE)  ## our PPO beside TRL 1.12's: time and memory, then its numbers
	$(BIN)/python -m benchmarks.ppo --json
	$(BIN)/python -m benchmarks.ppo --parity --json
