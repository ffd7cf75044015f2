# make setup | test | quick | lint | format | model | demo | scores | docs | clean. Needs python3 (3.11 or newer) with venv and pip; nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WHOLE  := $(VENV)/.whole

# The demo's one edit; override on the command line: make demo PROMPT="..." TARGET="..."
PROMPT ?= The capital of France is
TARGET ?= Lyon

export TOKENIZERS_PARALLELISM = false
# An older activated environment must not leak into this one.
unexport PYTHONPATH VIRTUAL_ENV

.PHONY: setup test quick lint format model demo scores docs clean

setup: $(READY)

# torch first and by itself: the package index then decides between the CPU and the CUDA build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name another one with make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[dev,export]' -c constraints.txt
	@touch $@

# The tests want the optional parts as well; the demo does without.
$(WHOLE): $(READY)
	$(BIN)/python -m pip install --quiet -e '.[dev,export,page,mcp,eval,browser]' -c constraints.txt
	@touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

model: $(READY)
	$(BIN)/instructedit model

test: $(WHOLE) lint model
	$(BIN)/python -m pytest -n auto --dist worksteal

# What takes less than half a second each: about a minute on two slow cores.
quick: $(WHOLE)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

demo: model
	$(BIN)/instructedit edit "$(PROMPT)" "$(TARGET)" --out runs/demo --force

# The README's score table: needs the published test sets in $$INSTRUCTEDIT_DATA/dev. LIMIT records a file, LEVERAGE of
# them under two instructions.
LIMIT  ?= 150
LEVERAGE ?= $(LIMIT)
DTYPE  ?= bfloat16
ASKED  := dev/counterfact.jsonl dev/recent.jsonl dev/convsent.jsonl
SCORED := $(BIN)/instructedit evaluate --instructed --dtype $(DTYPE) --cache runs/scores/cache --force
scores: model
	$(SCORED) --limit $(LIMIT) --data dev/counterfact_neighborhood.jsonl dev/zsre.jsonl $(ASKED) --out runs/scores/plain
	$(SCORED) --limit $(LEVERAGE) --data $(ASKED) --leverage --out runs/scores/leverage
	$(BIN)/instructedit card default runs/scores/plain runs/scores/leverage --require scripts/bars.yaml

docs: $(READY)
	$(BIN)/python scripts/make_cli_docs.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis src/*.egg-info
