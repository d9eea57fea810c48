# The interface to everything: `make demo`, `make test`, `make check`, `make bench`, `make bench-s3`, `make bench-large`, `make bench-starts`.
SHELL := /bin/bash
export ROOST_CACHE ?= $(CURDIR)/.cache
PYTHON = $$(scripts/python.sh)

.PHONY: demo test unit acceptance check build bench bench-s3 bench-large bench-starts setup clean

demo: setup build
	$(PYTHON) Demo/demo.py

setup:
	@scripts/setup.sh

build: setup
	swift build -c release --product roost
	swift build -c release --product roost-monitor

test: unit acceptance

# Tests are built like the product, so that dependencies are compiled once.
unit: setup
	swift build -c release --build-tests
	swift test -c release --skip-build

acceptance: setup build
	$(PYTHON) -m pytest Acceptance $(PYTEST_FLAGS)

check: setup
	swift format lint --strict --recursive --configuration .swift-format Sources Tests Package.swift
	/usr/bin/python3 scripts/tidy.py

bench: setup build
	$(PYTHON) Benchmarks/bench.py

# Parts of it: make bench-s3 PART="transfers listings buckets completion memory"
bench-s3: setup build
	$(PYTHON) Benchmarks/s3.py $(PART)

# A 1 GiB output through a store beside `aws s3 cp`, and what an s3Config costs.
bench-large: setup build
	$(PYTHON) Benchmarks/large_data.py

# Fresh, thawed and spare workers beside crun, runc and podman. Parts: fresh peers thawed spare burst model volume download
bench-starts: setup build
	scripts/setup.sh podman
	$(PYTHON) Benchmarks/starts.py $(PART)

clean:
	rm -rf .build .cache
