# SPDX-License-Identifier: Apache-2.0
# A thin face over the CMake presets of CMakePresets.json: `make help` lists what there is.

JOBS ?= $(shell nproc)
# Sanitizer runtimes of this age fail under the address randomisation of newer kernels.
FIXED := $(shell setarch -R true 2>/dev/null && echo setarch -R)
QUIET_TESTS := --no-tests=error -j $(JOBS)

.DEFAULT_GOAL := build
.PHONY: help install install-check build demo test test-slow bench dev asan tsan ct fuzz format format-check tidy tidy-all clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

install:         ## install missing Debian packages (apt) and the Python oracles (.venv)
	@tools/install.sh --venv

install-check:   ## the same, with clang and valgrind for the checks below
	@tools/install.sh --venv --check

build: install   ## build everything into build/release (programs: build/release/bin)
	@cmake --preset release
	@cmake --build --preset release --parallel $(JOBS)

demo:            ## a real network on real photographs, in four modes, then a device that lies
	@tools/install.sh
	@cmake --preset release
	@cmake --build --preset release --parallel $(JOBS) --target demo
	@python3 tools/demo.py

test: build      ## build and run the whole test suite but the slow and GPU tests
	@ctest --preset release $(QUIET_TESTS) -LE 'gpu|slow'

test-slow: build ## the tests with label slow
	@ctest --preset release $(QUIET_TESTS) -L slow

bench: build     ## short benchmarks of the kernels
	@build/release/bin/slalom bench micro

dev: install     ## quick build with debug information, and its unit tests
	@cmake --preset dev
	@cmake --build --preset dev --parallel $(JOBS)
	@ctest --preset dev $(QUIET_TESTS) -L unit

asan: install-check ## unit tests under the address and undefined-behaviour sanitizers
	@cmake --preset asan
	@cmake --build --preset asan --parallel $(JOBS)
	@$(FIXED) ctest --preset asan $(QUIET_TESTS)

tsan: install-check ## tests of everything with threads under the thread sanitizer
	@cmake --preset tsan
	@cmake --build --preset tsan --parallel $(JOBS)
	@$(FIXED) ctest --preset tsan $(QUIET_TESTS)

ct: install-check   ## constant-time tests under valgrind
	@cmake --preset ct
	@cmake --build --preset ct --parallel $(JOBS)
	@ctest --preset ct $(QUIET_TESTS)

fuzz: install-check ## every fuzz target for a few seconds, from its corpus (libFuzzer, clang)
	@cmake --preset fuzz
	@cmake --build --preset fuzz --parallel $(JOBS)
	@$(FIXED) ctest --preset fuzz $(QUIET_TESTS)

format: install-check ## lay out all C++ files
	@git ls-files '*.h' '*.cc' '*.cu' | xargs clang-format -i

format-check: install-check ## fail if a file is not laid out
	@bad=$$(git ls-files '*.h' '*.cc' '*.cu' | while read -r f; do \
	  clang-format "$$f" | cmp -s - "$$f" || echo "  $$f"; done); \
	  if [ -n "$$bad" ]; then printf 'not laid out; run make format:\n%s\n' "$$bad"; exit 1; fi

tidy: install-check ## clang-tidy on the files changed lately (BASE=commit to say since when)
	@tools/tidy $(BASE)

tidy-all: install-check ## clang-tidy on the whole tree
	@tools/tidy --all

clean:           ## remove everything that was built
	@rm -rf build
