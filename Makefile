# The front door. Every target first makes sure that what it needs is there: .venv from the
# lock file, system programs unpacked into .cache. Nothing is installed on the host.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready
OUTSIDE := $(VENV)/.validate

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-attack demo-macsec test test-host test-lab interop check bench validate attack-matrix fuzz liboqs lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY)  ## make .venv, nothing else

$(READY): .ci/venv .ci/lock/dev.txt pyproject.toml
	@PYTHON=$(PYTHON) .ci/venv $(VENV)
	@touch $@

$(OUTSIDE): $(READY) .ci/lock/validate.txt  # outside programs to compare with, never needed to run
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --no-build-isolation -r .ci/lock/validate.txt
	@touch $@

demo: $(READY)  ## two sites, one hybrid tunnel on a real kernel, cut and healed
	$(RUN)/qsgw-lab demo

demo-attack: $(READY)  ## two quantum links attacked; one sees it, its tunnel goes on without
	$(RUN)/qsgw-lab demo-attack

demo-macsec: $(READY)  ## two sites on a layer-2 link: MACsec, CAKs from QKD, hundreds of rollovers
	$(RUN)/qsgw-lab demo-macsec

test: test-host test-lab  ## all tests

test-host: $(READY)  ## tests that need no lab: unit, exchange, property, vectors, ...
	$(RUN)/python -m pytest tests --ignore=tests/lab -n auto

test-lab: $(READY)  ## tests inside the lab's kernel
	$(RUN)/qsgw-lab test

interop: $(READY)  ## our gateway against strongSwan, libreswan and wpa_supplicant, fetched into .cache
	$(RUN)/qsgw-lab interop

check: $(READY)  ## ruff, mypy --strict, direction of imports
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/python -m pytest -q tests/test_architecture.py

bench: $(OUTSIDE)  ## figures of one run: handshake, rekey, status, memory, MACsec
	$(RUN)/python -m tests.bench

validate: $(OUTSIDE)  ## physics and post-processing against known figures; report in build/validate/
	$(RUN)/python -m tests.validate

attack-matrix: $(READY)  ## every attack on every link; writes the table of docs/detection.md
	$(RUN)/python -m tests.validate.attacks --docs docs/detection.md

fuzz: $(READY)  ## a million hostile inputs at the IKE core, 200,000 at MKA; report in build/fuzz/
	$(RUN)/python -m tests.fuzz --target ike --inputs 1000000
	$(RUN)/python -m tests.fuzz --target mka --inputs 200000

liboqs: $(READY)  ## build the liboqs shared library into .cache
	$(RUN)/python -m gateway.crypto.kem_oqs_build --cache .cache

LOCK_FORM := --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: $(READY)  ## resolve the dependencies anew
	$(RUN)/pip-compile --upgrade --extra lab --extra plots --extra liboqs --extra dev \
	    --build-deps-for editable $(LOCK_FORM) --output-file .ci/lock/dev.txt pyproject.toml
	$(RUN)/pip-compile --upgrade --extra validate --constraint .ci/lock/dev.txt \
	    $(LOCK_FORM) --output-file .ci/lock/validate.txt pyproject.toml

clean:  ## remove everything the other targets made
	rm -rf build $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find gateway kms_client qkd_adapters netns_lab tests -name __pycache__ -type d -prune -exec rm -rf {} +
