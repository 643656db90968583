# make demo       runs the digits sample through all stages into out/digits
# make test       lint, types and tests
# make test-slow  the tests that take minutes: the classifiers of docs/models.md; 50 kills with 50 exact resumes, 2,000 made-up
#                 configs and 700 mutated files (tests/reliability)
# make env        the environment that all need; built once for each state of constraints.txt, setup.py and Python
# make clean      removes what the others wrote, but for the environment
#
# PYTHON       the Python to build the environment with, 3.10 to 3.13
# LLT_ENV_DIR  where environments are kept; several checkouts may share it

PYTHON ?= python3
LLT_ENV_DIR ?= .env

# NNCF and OpenVINO report usage by default; these switch it off.
export CI = true
export NNCF_CI = 1
# OpenMP threads that spin while they wait slow each other down a hundredfold when other processes want the cores too.
export OMP_WAIT_POLICY = PASSIVE
# The environment holds the dependencies only, so that checkouts can share it: the package comes from this one.
export PYTHONPATH = $(CURDIR)

# For example py311-0123456789ab; empty if this Python is not supported.
env_key := $(shell $(PYTHON) -c 'import hashlib, sys; \
    files = b"".join(open(name, "rb").read() for name in ("constraints.txt", "setup.py")); \
    key = hashlib.sha256(files + sys.version.encode()).hexdigest()[:12]; \
    supported = (3, 10) <= sys.version_info[:2] < (3, 14); \
    print("py%d%d-%s" % (sys.version_info[0], sys.version_info[1], key) if supported else "")' 2>/dev/null)
env := $(LLT_ENV_DIR)/$(env_key)
python := "$(env)/bin/python"

.PHONY: env demo test test-slow lint clean

# Built in a folder of its own name; the link to it is made last, so that only a finished environment has one.
# Environments that nobody used for an hour are removed, unfinished ones too. Python's -I keeps PYTHONPATH out of pip.
env:
	$(if $(env_key),,$(error llt_nncf needs Python 3.10 to 3.13, and "$(PYTHON)" is \
	    "$(shell $(PYTHON) --version 2>&1)". Name another: make PYTHON=python3.12 $(MAKECMDGOALS)))
	@set -eu; \
	if [ -e $(python) ]; then touch "$(env)/"; exit; fi; \
	mkdir -p "$(LLT_ENV_DIR)"; \
	new=$$(mktemp -d "$(env).XXXXXX"); \
	trap 'rm -rf "$$new"' EXIT; trap 'exit 130' HUP INT TERM; \
	echo "Building the environment $(env): a few minutes, and some 7 GB where pip's index serves torch with CUDA."; \
	$(PYTHON) -I -m venv "$$new"; \
	pip() { "$$new/bin/python" -I -m pip "$$@" --disable-pip-version-check --no-input >"$$new/pip.log" 2>&1 || \
	    { grep -v ^WARNING "$$new/pip.log" | tail -n 25 >&2; exit 1; }; }; \
	pip install --progress-bar off -c constraints.txt '.[dev,samples]'; \
	pip uninstall --yes llt-nncf; \
	rm -rf build llt_nncf.egg-info; \
	touch "$$new"; ln -sfn "$$(basename "$$new")" "$(env)"; \
	trap - EXIT; \
	find "$(LLT_ENV_DIR)" -maxdepth 1 -type d -name 'py*-*.*' -mmin +60 -exec rm -rf {} +; \
	for link in "$(LLT_ENV_DIR)"/py*; do [ -e "$$link" ] || rm -f "$$link"; done

demo: env
	$(python) samples/classification/main.py --dataset digits --config configs/digits.json --out out/digits

test: lint
	$(python) -m pytest

test-slow: env
	$(python) -m pytest -m slow

lint: env
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy llt_nncf

clean:
	rm -rf out build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find llt_nncf samples tests -name __pycache__ -prune -exec rm -rf {} +
