.PHONY: run test check bench

run: ## a virtual environment, the proxy and a small real model on http://127.0.0.1:8080
	@scripts/install local
	@exec "$${VENV:-.venv}/bin/python" -m proxy serve

test: ## everything the suite needs, then the suite
	@scripts/install dev
	@scripts/test

check: ## format, lint, types
	@scripts/install dev
	@scripts/check

bench: ## throughput and overhead beside nginx
	@scripts/install local
	@scripts/bench
