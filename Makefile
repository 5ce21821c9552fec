# Muster. `make demo` shows the main job on a fresh machine, `make test` passes the tests; each does its own set-up.

SHELL := /bin/bash
# How long `make demo` keeps the cluster up after its jobs, for example DURATION=10m.
DURATION ?=
# Which engine the demo uses: auto, docker or process.
ENGINE ?= auto
# What the demo's coordinators keep their state in: embedded (one coordinator, one file) or etcd (three over three members).
STORE ?= embedded
# How long `make chaos` breaks things: for so many minutes, or until so many leaders were killed.
MINUTES ?=
KILLS ?=
# Seed of `make chaos`, to repeat the order of an earlier run.
SEED ?=
# Worlds of `make sim`; and whether each guard is removed instead, until it is missed.
SEEDS ?=
MUTANTS ?=
# Only one of the measurements of `make bench`: create, jobs, gangs, failover, containers.
ONLY ?=

.PHONY: help setup build demo test test-etcd chaos check fmt docs bench failover sim deny clean

help:
	@echo 'make demo [DURATION=10m] [ENGINE=process]   four jobs through a whole cluster on this machine, in under 100 s'
	@echo 'make demo STORE=etcd                        the same over etcd, with three coordinators; the leader is killed'
	@echo 'make test                                   every test, with all they need; ETCD=3.6 takes a current etcd'
	@echo 'make test-etcd                              only the tests that use etcd'
	@echo 'make chaos [KILLS=50] [MINUTES=30] [SEED=7] a stream of jobs while everything is killed, paused and cut off'
	@echo 'make sim [SEEDS=10000] [MUTANTS=1]           simulated worlds of faults; each guard removed until it is missed'
	@echo 'make check                                  format, clippy, docs, dependency policy'
	@echo 'make bench [ONLY=failover]                  create latency, jobs/s, containers/s, failover, as medians and ratios'
	@echo 'make failover                               only the time that a failover takes, as make bench ONLY=failover'
	@echo 'make docs                                   docs/configuration.md anew from the code'
	@echo 'make setup                                  installs what a build needs and this machine lacks'
	@echo 'make build                                  all binaries, unoptimised, in target/debug'
	@echo 'make deny                                   only the dependency policy; builds cargo-deny once'
	@echo 'make fmt                                    formats the code'
	@echo 'make clean                                  removes what was built, and .local with what was fetched'

setup:
	@sh tests/setup/packages.sh

build: setup
	cargo build --locked --workspace --bins

demo:
	@sh tests/setup/demo.sh '$(ENGINE)' '$(DURATION)' '$(STORE)'

test: setup
	@bash tests/setup/test.sh

test-etcd: setup
	@bash tests/setup/test.sh etcd

chaos: setup
	@bash tests/setup/chaos.sh '$(ENGINE)' '$(MINUTES)' '$(KILLS)' '$(SEED)'

check: setup deny
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features muster-coordinator/crash-points -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

# Licences, bans and sources. Advisories need a database that is not part of this repository (deny.toml says more).
deny:
	@bash tests/setup/deny.sh

# The brains in simulated worlds of faults (docs/simulation.md).
sim: setup
	@SEEDS='$(SEEDS)' MUTANTS='$(MUTANTS)' bash tests/setup/sim.sh

fmt:
	cargo fmt --all

docs: setup
	UPDATE_DOCS=1 cargo test --locked -p muster-tests --test configuration

bench: setup
	@bash tests/setup/bench.sh $(if $(ONLY),--only '$(ONLY)')

failover: setup
	@bash tests/setup/bench.sh --only failover

clean:
	cargo clean
	rm -rf .local
