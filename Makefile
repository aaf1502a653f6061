# The commands that need nothing but Node, npm and make.
#   make run     install, build the default model's engine if it is not there yet, serve it, show one streamed answer, keep serving
#   make test    install and run every test
#   make setup   only install and build; bin/nereid runs after it
#   make bench   what the README's numbers come from (also: npm run bench:NAME)

MODEL ?=
HTTP_PORT ?= 8000
TESTS ?=

.PHONY: run test setup check bench clean

run: setup
	bin/nereid serve $(MODEL) --http-port $(HTTP_PORT) --log-level warn --self-test

test: setup bench/node_modules/.installed
	npm run -s typecheck
	npm run -s lint
	node tools/test.mjs $(TESTS)

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

clean:
	rm -rf node_modules bench/node_modules dist .venv
