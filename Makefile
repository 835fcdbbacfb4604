# Two commands on a fresh machine (Debian, python3 >= 3.11): `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INSTALLED := $(shell cat $(READY) 2>/dev/null)
REQUIREMENTS ?= $(or $(INSTALLED),requirements/cpu.txt)
DEMO ?= runs/demo
HEAVY := ray or vllm or slow

# Where it is set, every process compiles its imports anew: vLLM's take 12 s instead of 5.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-cluster lint setup benchmarks requirements clean

setup: $(READY)

# uv installs the pinned set without resolving it: half a minute where plain pip takes many.
# It is looked for first, and otherwise installed into a small environment of its own.
$(READY): $(REQUIREMENTS) pyproject.toml
	@command -v uv >/dev/null 2>&1 || test -x .uv/bin/uv || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install -q uv; }
	PATH="$(CURDIR)/.uv/bin:$$PATH" uv venv -q --allow-existing --python $(PYTHON) $(VENV)
	PATH="$(CURDIR)/.uv/bin:$$PATH" VIRTUAL_ENV=$(VENV) uv pip install -q --no-deps -r $(REQUIREMENTS)
	PATH="$(CURDIR)/.uv/bin:$$PATH" VIRTUAL_ENV=$(VENV) uv pip install -q --no-deps --editable .
	@echo $(REQUIREMENTS) > $@

# Another set than the one that is there is installed over it.
ifneq ($(or $(INSTALLED),$(REQUIREMENTS)),$(REQUIREMENTS))
.PHONY: $(READY)
endif

demo: $(READY)
	@$(BIN)/python -m engine.terrarium.write $(DEMO)/images --scenes 480 --shard-rows 80 --seed 7 --families
	@$(BIN)/connote run jobs/recipes/terrarium.yaml --out $(DEMO)/run --set images.uri=$(DEMO)/images
	@$(BIN)/connote show $(DEMO)/run --images 3

# What starts Ray or vLLM wants the machine for itself; beside it everything else takes what is left.
test: $(READY) lint
	@$(BIN)/python -m pytest tests -m "not ($(HEAVY))" > $(VENV)/light.txt 2>&1 & light=$$!; \
	$(BIN)/python -m pytest tests -m "($(HEAVY)) and not cluster"; heavy=$$?; \
	wait $$light; others=$$?; cat $(VENV)/light.txt; exit $$((heavy || others))

# Clusters of several nodes, started as users start them: some twenty minutes more.
test-cluster: $(READY)
	$(BIN)/python -m pytest tests -m cluster

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck cluster/*.sh

benchmarks: $(READY)
	$(BIN)/python -m benchmarks

# Pins every package anew. The overrides are explained in docs/architecture.md, section 3.
requirements:
	uv pip compile pyproject.toml --extra cpu --extra test --override requirements/cpu-overrides.txt \
		--python-version 3.11 --no-header --no-annotate -q -o requirements/cpu.txt
	uv pip compile pyproject.toml --extra gpu --extra test --override requirements/gpu-overrides.txt \
		--python-version 3.11 --no-header --no-annotate -q -o requirements/gpu.txt

clean:
	rm -rf runs build *.egg-info
