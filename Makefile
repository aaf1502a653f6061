# The commands that need nothing but Node, npm and make.
#   make run     install, build the default model's engine if it is not there yet, serve it, show one streamed answer, keep serving
#   make test    install and run every test
#   make setup   only install and build; bin/nereid runs after it
#   make run_server, run_client, load, …   Briton's targets: docs/briton.md
#   make clients the third-party clients that are too large for every run (a gigabyte; docs/clients.md)
#   make bench   what the README's numbers come from (also: npm run bench:NAME)

MODEL ?=
HTTP_PORT ?= 8000
GRPC_PORT ?= 8001
METRICS_PORT ?= 8002
TESTS ?=

.PHONY: run test clients setup check bench clean

run: setup
	bin/nereid serve $(MODEL) --http-port $(HTTP_PORT) --grpc-port $(GRPC_PORT) --metrics-port $(METRICS_PORT) --log-level warn --self-test

test: setup bench/node_modules/.installed
	npm run -s typecheck
	npm run -s lint
	node tools/test.mjs $(TESTS)

clients: setup
	NEREID_ALL_CLIENTS=1 node --import tsx --test test/foreign/more-clients.test.ts

setup: node_modules/.installed dist/.built

node_modules/.installed: package.json package-lock.json
	npm ci --no-fund --no-audit
	@touch $@

# The peer that benchmarks and one interoperability test compare with; never needed at run time. Its CUDA builds (700 MB) are
# optional packages, left out; the CPU one is ours.
bench/node_modules/.installed: bench/package.json
	cd bench && npm install --no-fund --no-audit --omit=optional --ignore-scripts
	@touch $@

dist/.built: node_modules/.installed tsconfig.build.json tsconfig.json $(shell find src -name '*.ts' -not -name '*.test.ts' -o -name '*.cu' -o -name '*.cuh')
	npm run -s build
	@touch $@

bench: setup bench/node_modules/.installed
	npm run -s bench

# What Briton's README calls its targets. MODEL names what is served (default: the catalogue's default model); BRITON_ADDRESS where clients look.
BRITON_PORT ?= 50051
BRITON_ADDRESS ?= 127.0.0.1:$(BRITON_PORT)
LOAD ?= --concurrency 16 --requests 200
PYTHON := .venv/examples/bin/python

.PHONY: build lint run_server run_server_tp2 test_server_client_flow run_client run_load_client run_python_client run_python_load_client load

build: setup

lint: node_modules/.installed
	npm run -s typecheck
	npm run -s lint

run_server: setup
	bin/nereid serve $(MODEL) --http-port $(HTTP_PORT) --briton-port $(BRITON_PORT)

run_server_tp2: setup
	bin/nereid serve $(MODEL) --http-port $(HTTP_PORT) --briton-port $(BRITON_PORT) --tensor-parallel 2

# Starts a server on free ports, sends it one request, prints the answer, stops it.
test_server_client_flow: setup
	node tools/server-client-flow.mjs $(MODEL)

run_client: run_load_client

run_load_client: setup
	bin/nereid load --target briton --url $(BRITON_ADDRESS) $(LOAD)

run_python_client: .venv/examples/.installed
	$(PYTHON) examples/python/briton_client.py --address $(BRITON_ADDRESS)

run_python_load_client: .venv/examples/.installed
	$(PYTHON) examples/python/briton_load_client.py --address $(BRITON_ADDRESS) $(LOAD)

.venv/examples/.installed: examples/python/requirements.txt
	python3 -m venv .venv/examples
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r examples/python/requirements.txt
	@touch $@

# HTTP load by k6, where it is installed; `make run_load_client` needs nothing.
load:
	@command -v k6 > /dev/null || { echo "k6 is not installed (https://k6.io); make run_load_client needs nothing"; exit 1; }
	URL=http://127.0.0.1:$(HTTP_PORT) k6 run examples/k6/load.js

clean:
	rm -rf node_modules bench/node_modules test/foreign/node/node_modules dist .venv
