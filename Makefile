# Everything runs in .venv, which the first command creates. `make help` lists the targets.

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export NO_ALBUMENTATIONS_UPDATE = 1
# Otherwise OpenMP's idle threads compete with other processes for cores, see tools/openmp.py.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 1000
endif

.PHONY: help install lint format test test-slow quickstart quickstart-detect quickstart-segment models gpu-check clean

help:
	@sed -n 's/^# make \([a-z-]*\): /  \1: /p' $(firstword $(MAKEFILE_LIST))

# make install: create .venv and install attnzoo in it, editable, with the development dependencies
install: .venv/installed build/typing/attnzoo

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("attnzoo needs Python 3.10 or newer, \
	but $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.10 ..." % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,quickstart]'
	@touch $@

.venv/clients-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[clients]'
	@touch $@

# The root is the package, so type checkers need a folder that contains it under its name.
build/typing/attnzoo:
	@mkdir -p $(@D)
	@ln -sfn ../.. $@

# make lint: check format, style and types
lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# make format: format, and fix what can be fixed automatically
format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make test: lint and the default suite
test: lint
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow' --durations=20

# make test-slow: the slow tests, which the default suite omits, also those with libraries that use the models
test-slow: install .venv/clients-installed
	$(BIN)/python -m pytest -n $(JOBS) -m slow --durations=20

# make quickstart: train and test a small NAT on real handwritten digits, and draw its predictions
quickstart: export OMP_NUM_THREADS = $(shell nproc 2>/dev/null || echo 2)
quickstart: install
	$(BIN)/python tools/make_digits.py
	$(BIN)/python tools/train.py configs/quickstart/nat_digits.py --work-dir work_dirs/quickstart
	$(BIN)/python tools/test.py configs/quickstart/nat_digits.py work_dirs/quickstart --work-dir work_dirs/quickstart
	$(BIN)/python tools/draw_predictions.py work_dirs/quickstart

# make quickstart-detect: train and test a small Mask R-CNN on scenes of these digits, and draw its detections
quickstart-detect: export OMP_NUM_THREADS = $(shell nproc 2>/dev/null || echo 2)
quickstart-detect: install
	$(BIN)/python tools/make_scenes.py
	$(BIN)/python tools/train.py nat_mask-rcnn_scenes --work-dir work_dirs/quickstart_detect
	$(BIN)/python tools/test.py nat_mask-rcnn_scenes work_dirs/quickstart_detect --work-dir work_dirs/quickstart_detect
	$(BIN)/python tools/predict.py 'data/scenes/val/00001*.jpg' --config work_dirs/quickstart_detect --out work_dirs/quickstart_detect

# make quickstart-segment: train and test a small Semantic FPN on these scenes, and draw its label maps
quickstart-segment: export OMP_NUM_THREADS = $(shell nproc 2>/dev/null || echo 2)
quickstart-segment: install
	$(BIN)/python tools/make_scenes.py
	$(BIN)/python tools/train.py eca_semantic-fpn_scenes --work-dir work_dirs/quickstart_segment
	$(BIN)/python tools/test.py eca_semantic-fpn_scenes work_dirs/quickstart_segment --work-dir work_dirs/quickstart_segment
	$(BIN)/python tools/predict.py 'data/scenes/val/00001*.jpg' --config work_dirs/quickstart_segment --out work_dirs/quickstart_segment

# make models: measure every model, and write MODELS.md and its plot
models: install
	$(BIN)/python tools/models.py

# make gpu-check: on a machine with an NVIDIA GPU, run its tests and benchmarks in 6 minutes; needs no installation
gpu-check:
	$(firstword $(wildcard $(BIN)/python) $(PYTHON)) tools/gpu_check.py --out work_dirs/gpu_check.json

# make clean: remove everything generated, except .venv
clean:
	rm -rf build dist *.egg-info work_dirs data .pytest_cache .ruff_cache .hypothesis
