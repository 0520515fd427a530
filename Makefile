# What a developer runs. `make help` says what each target does.
SHELL := /bin/bash
JOBS ?= $(shell nproc)

.PHONY: help demo build test bench format tidy asan tsan clang clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## start a server, replay the reference input against it, show the table and metrics
	@scripts/demo.sh

build: ## compile everything, optimised, into build/release
	@scripts/install_dependencies.sh build
	@scripts/build.sh release

test: ## all tests, then unit and integration tests under the address sanitizer
	@scripts/test.sh

bench: build ## time codec and attention beside dense fp16 attention on this machine
	@for bench in build/release/tests/bench/*_bench; do $$bench || exit 1; done

format: ## format the C++ sources
	@scripts/install_dependencies.sh build tools
	@cmake --preset clang >/dev/null && cmake --build --preset clang --target format

tidy: clang ## run clang-tidy over the C++ sources
	@cmake --build --preset clang --target tidy

asan: ## unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/test.sh asan

tsan: ## tests of kernels, store and engine under ThreadSanitizer
	@scripts/test.sh tsan

clang: ## compile everything with clang and -Wthread-safety
	@scripts/install_dependencies.sh build tools
	@scripts/build.sh clang

clean: ## remove build/
	@rm -rf build
