PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
.PHONY: venv demo test check bench

venv: .venv/installed

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: venv
	$(BIN)/python sample.py --output out/demo $(DEMO)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/installed-dev
	$(BIN)/python benchmarks/sampling_loop.py
	$(BIN)/python benchmarks/posterior_step.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/calibration_page.py
	$(BIN)/python benchmarks/volume.py
	$(BIN)/python benchmarks/phantoms.py
	$(BIN)/python benchmarks/ct_projectors.py
	$(BIN)/python benchmarks/ct_reconstruction.py
	$(BIN)/python benchmarks/mri_operators.py
	$(BIN)/python benchmarks/mri_reconstruction.py
	$(BIN)/python benchmarks/plug_and_play.py
	$(BIN)/python benchmarks/choosing_a_baseline.py
	$(BIN)/python benchmarks/bilevel_gradient.py
	$(BIN)/python benchmarks/learned_regularisers.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/learned_training.py
	$(BIN)/python benchmarks/raki.py
	$(BIN)/python benchmarks/automap_shift.py
