# Two commands matter: `make book` and `make test`. Both build .venv from the lock by themselves, say what they do, and
# continue where they were when interrupted.

PROFILE ?= quick
VENV ?= .venv
PYTHON ?= python3
CORES ?= all

SHELL := bash
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.installed
export PATH := $(BIN):$(PATH)
# Each would otherwise print a warning at every notebook that is executed.
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# pip leaves the environment uncompiled. Where Python may not keep what it compiles, each of a few hundred processes would
# compile torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help book test test-long test-cluster test-store lint bench lock notebooks kernels bundle sphinx clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Every time a job ends, Snakemake begins to wake up once more each timespan, of a second if nothing is said: by the end
# a tenth of a core does nothing else.
# What a reader opens first is made first: chapters 00 to 06 lie in results/$(PROFILE)/chapters before the book is whole.
# The other scheduler finds no solution where priorities are given, says so before each job, and falls back to this one.
FIRST := $(patsubst notebooks/%.py,results/$(PROFILE)/chapters/%.ipynb,$(wildcard notebooks/0[0-6]_*.py))
book: $(READY)  ## run the workflow and leave _build/html/index.html (PROFILE=quick, CORES=all)
	snakemake --cores $(CORES) --rerun-incomplete --max-jobs-per-timespan 100/4s --scheduler greedy --prioritize $(FIRST) --config profile=$(PROFILE)
	@echo "The book is _build/html/index.html"

# A file of tests stays with one process: its fixtures are made once.
test: lint  ## all checks and tests, the tiny profile end to end last
	pytest -m "not workflow and not long and not cluster and not store" -n logical --maxprocesses 4 --dist loadfile
	pytest -m workflow --capture=no

test-long: $(READY)  ## what takes long: more than fifty killed runs
	pytest -m long

test-cluster: $(READY)  ## the workflow on a Slurm cluster of its own, which root of a Debian or Ubuntu gets installed
	python tests/cluster.py install
	pip install --quiet -c requirements.lock.txt -e '.[cluster]'
	pytest -m cluster --capture=no

# The server is moto's and has an environment of its own: it wants another botocore than s3fs.
MOTO := $(abspath $(VENV)).moto
test-store: $(READY)  ## shards in an S3 server of its own
	@test -x $(MOTO)/bin/pip || $(PYTHON) -m venv $(MOTO)
	$(MOTO)/bin/pip install --quiet 'moto[s3,server]>=5,<6'
	pip install --quiet -c requirements.lock.txt -e '.[s3]'
	MOTO_SERVER=$(MOTO)/bin/moto_server pytest -m store

lint: $(READY)  ## style and import directions
	ruff check .
	ruff format --check .
	lint-imports

bench: $(READY)  ## images a second against the plain reference; the other scripts of benchmarks/ say how to call them
	python benchmarks/training_speed.py

notebooks: $(READY)  ## write notebooks/*.ipynb anew from the .py beside them
	python -m gandl_book.chapters notebooks

# A pip of today, for what an old one downloads to look at it reads from the registry.
kernels:  ## would the chapters' first cell install on Colab and Kaggle, and what would it bring?
	@test -x $(VENV).kernels/bin/pip || $(PYTHON) -m venv $(VENV).kernels
	@$(VENV).kernels/bin/pip install --quiet --upgrade pip packaging
	$(VENV).kernels/bin/python tests/kernels/resolve.py

bundle: $(READY)  ## pack what the chapters show, made by `make book`, into _build/gandl-results-PROFILE.zip
	mkdir -p _build
	python -m gandl_book.bundle pack results/$(PROFILE) _build/gandl-results-$(PROFILE).zip
	python -m gandl_book.bundle verify _build/gandl-results-$(PROFILE).zip

# jupyter-book 1.x is near its end. It can write what Sphinx alone needs, so that leaving it is one commit; this builds that.
sphinx: $(READY)  ## the pages of `make book` once more, by plain Sphinx, into _build/sphinx
	rm -rf _build/plain _build/sphinx && cp -r book _build/plain && cp _config.yml _toc.yml _build/plain/
	cd _build/plain && jupyter-book config sphinx .
	PYTHONPATH=book/_ext sphinx-build -b html -n -W --keep-going -q _build/plain _build/sphinx

# Versions already in the lock stay; delete a line (or the file) to let that package move.
# torch comes first and pinned: a bare `torch` or a range pulls gigabytes of CUDA packages.
# sphinx-mathjax-offline brings the MathJax file that the book ships.
lock:  ## resolve requirements.lock.txt anew in a fresh environment
	rm -rf $(VENV).lock && $(PYTHON) -m venv $(VENV).lock
	touch requirements.lock.txt
	$(VENV).lock/bin/pip install -c requirements.lock.txt --upgrade setuptools torch==2.13.0
	$(VENV).lock/bin/pip install -c requirements.lock.txt -e '.[book,methods,encoders,dev]' sphinx-mathjax-offline
	$(VENV).lock/bin/pip check
	$(VENV).lock/bin/pip freeze --all --exclude-editable | sed -E '/^pip==/d; s/^(torch==[0-9.]+)\+.*/\1/' > requirements.lock.txt.partial
	mv requirements.lock.txt.partial requirements.lock.txt
	rm -rf $(VENV).lock

clean:  ## remove all that runs made; the environment stays
	rm -rf results _build book/chapters book/_static/mathjax .snakemake

$(READY): requirements.lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile -r requirements.lock.txt
	$(BIN)/pip install --no-deps -e .
	@touch $@
