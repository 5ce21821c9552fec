# Muster. `make demo` shows the main job on a fresh machine, `make test` passes the tests; each does its own set-up.

SHELL := /bin/bash
# How long `make demo` keeps the cluster up after its jobs, for example DURATION=10m.
DURATION ?=
# Which engine the demo uses: auto, docker or process.
ENGINE ?= auto

.PHONY: help setup build demo test check fmt docs bench deny clean

help:
	@echo 'make demo [DURATION=10m] [ENGINE=process]   four jobs through a whole cluster on this machine, in under 100 s'
	@echo 'make test                                   every test, with all they need'
	@echo 'make check                                  format, clippy, docs, dependency policy'
	@echo 'make bench                                  create latency, jobs/s, containers/s, as medians and ratios'
	@echo 'make docs                                   docs/configuration.md anew from the code'

setup:
	@sh tests/setup/packages.sh

build: setup
	cargo build --locked --workspace --bins

demo:
	@sh tests/setup/demo.sh '$(ENGINE)' '$(DURATION)'

test: setup
	@bash tests/setup/test.sh

check: setup deny
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features muster-coordinator/crash-points -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

# Licences, bans and sources. Advisories need a database that is not part of this repository (deny.toml says more).
deny:
	@bash tests/setup/deny.sh

fmt:
	cargo fmt --all

docs: setup
	UPDATE_DOCS=1 cargo test --locked -p muster-tests --test configuration

bench: setup
	@bash tests/setup/bench.sh

clean:
	cargo clean
	rm -rf .local
