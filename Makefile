# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARALLEL := --numprocesses=2 --dist=loadfile  # each process uses one core

.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create the environment in .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)  ## pre-train a small ViT on synthetic scenes, on a CPU, in about five minutes
	$(BIN)/python -m conmim_lightning.train experiment=quickstart trainer=cpu logger=csv

cifar10: $(READY)  ## the table of CIFAR-10: GPU minutes or CPU hours, told before; continues where it stopped; DATA=/images/cifar10
	$(BIN)/python -m conmim_lightning.study study=cifar10 $(if $(DATA),-- data.root=$(DATA))

test: $(READY)  ## all tests that this machine can run
	$(BIN)/python -m pytest -m 'not gpu' $(PARALLEL)

check: $(READY)  ## formatting, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -m 'not gpu and not slow and not ddp' $(PARALLEL)

format: $(READY)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gpu-test gpu-figures: PY = $(if $(wildcard $(READY)),$(BIN)/python,env PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON))
gpu:  ## GPU tests and GPU benchmark, 13 minutes at most; uses .venv or PYTHON
	$(MAKE) gpu-test; tests=$$?; $(MAKE) gpu-figures && exit $$tests

gpu-test:  ## the tests that need a GPU, 150 s at most
	timeout 150 $(PY) -m pytest -m gpu -W default tests/integration/test_gpu.py

GPU = -m conmim_lightning.benchmark benchmark.precisions=[bf16-mixed] benchmark.warmup=2 benchmark.steps=6 backbone.drop_path_rate=0
RUNS := runs/gpu
gpu-figures:  ## benchmark of ViT-B, L and S on a GPU, ViT-B beside the reference step, 10 minutes at most
	failed=0; \
	timeout 100 $(PY) $(GPU) experiment=vit_b_pretrain benchmark.batch_size=128 paths.run_dir=$(RUNS)/vit_b \
		'benchmark.variants=[reference 16-mixed,ours]' benchmark.stages=[step,attention] || failed=1; \
	timeout 80 $(PY) $(GPU) experiment=vit_b_pretrain benchmark.batch_size=128 paths.run_dir=$(RUNS)/vit_b_run \
		benchmark.variants=[ours] benchmark.stages=[data,run] || failed=1; \
	timeout 80 $(PY) $(GPU) experiment=vit_l_pretrain benchmark.batch_size=128 paths.run_dir=$(RUNS)/vit_l \
		benchmark.variants=[ours] || failed=1; \
	timeout 60 $(PY) $(GPU) experiment=vit_s_pretrain benchmark.batch_size=256 paths.run_dir=$(RUNS)/vit_s \
		benchmark.variants=[ours] || failed=1; \
	timeout 90 $(PY) $(GPU) experiment=vit_b_pretrain benchmark.batch_size=256 paths.run_dir=$(RUNS)/vit_b_batch_sizes \
		benchmark.variants=[ours] benchmark.stages=[batch_sizes] || failed=1; \
	timeout 190 $(PY) $(GPU) experiment=vit_b_pretrain benchmark.batch_size=128 paths.run_dir=$(RUNS)/vit_b_compiled \
		benchmark.variants=[ours,compiled] || failed=1; \
	exit $$failed

docs: $(READY)  ## build the documentation site in site/, with executed notebooks, in about three minutes
	EXECUTE_NOTEBOOKS=true NO_MKDOCS_2_WARNING=1 TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build --quiet

soak: $(READY)  ## kill small runs a hundred times at random moments and compare their weights, about 25 minutes
	$(BIN)/python tests/soak.py --kills 100

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache site

.PHONY: help setup demo cifar10 test check format gpu gpu-test gpu-figures docs soak clean
