# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint slow kernels bench results packages versions lock audit docs clean help

help:           ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(VENV)/.demo   ## make a data set, train with and without DFR, compare, write a report
	rm -rf demo
	$(BIN)/scribbleseg demo --out demo

test: lint $(VENV)/.kernels   ## lint, types and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q --durations=25 --durations-min=10

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

kernels: $(VENV)/.kernels ## the compiled CPU kernels, where a C++ compiler is

slow: $(VENV)/.dev $(VENV)/.kernels  ## the long checks: the whole demo, real data where it is at hand
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow -q

bench: $(VENV)/.dev $(VENV)/.kernels ## time the ops, a step, loading and start (docs/performance.md); PEERS=folder adds the field's own code
	$(BIN)/python -m benchmarks.ops.all run $(if $(PEERS),--peers-dir $(PEERS))
	$(BIN)/python -m benchmarks.ops.all write

results: $(VENV)/.dev $(VENV)/.kernels ## train and score the tables of docs/results.md; needs DATA=… WEIGHTS=…
	$(BIN)/scribbleseg bench benchmarks/first_light.yaml --data $(DATA) --weights $(WEIGHTS)
	$(BIN)/scribbleseg bench benchmarks/first_light.yaml --data $(DATA) --weights $(WEIGHTS) --page docs/results.md

packages: $(VENV)/.dev ## wheel and source distribution into dist/, installed and used without a compiler
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	release/clean_install.sh dist $(PYTHON)

versions: $(VENV)/.dev ## the tests with the oldest versions that are allowed, and on other Pythons
	release/versions.sh $(BIN)/uv

lock: $(VENV)/.dev ## requirements.lock: every package that any extra brings, with hashes
	$(BIN)/uv pip compile pyproject.toml --no-config --all-extras --universal --python-version 3.11 --generate-hashes --quiet \
		--constraints constraints.txt --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --output-file requirements.lock

audit: $(VENV)/.dev ## known holes of the packages of requirements.lock; a list of all parts as dist/sbom.json
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json requirements.lock
	$(BIN)/pip-audit --requirement requirements.lock --disable-pip --require-hashes

docs: $(VENV)/.dev ## the pages as a site, in build/docs; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.demo

# Without a compiler everything works, on the portable backends; `scribbleseg doctor` says which.
$(VENV)/.kernels: $(wildcard kernels/src/* kernels/scribbleseg_kernels/* kernels/CMakeLists.txt kernels/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet ./kernels || echo "the compiled kernels were not built: is there a C++ compiler?"
	touch $@

clean:          ## remove what the targets made
	rm -rf $(VENV) demo dist build .pytest_cache .mypy_cache .ruff_cache
