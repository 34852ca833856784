# Noria's tasks. `make` lists them; `make setup` is all a fresh machine needs (Python ≥ 3.11, pip, git, apt).
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # servers and tests start many processes; each would compile everything anew
T ?= tests

.PHONY: help setup docs demo test test-fast test-ray test-slurm test-kubernetes test-kills test-openapi test-flavors dev check format types approve bench ci screenshots lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/ready  ## Make .venv with everything, and the browser of the tests

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Noria needs Python 3.11 or newer; set PYTHON=..."'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/browser: scripts/install_browser.sh
	bash scripts/install_browser.sh
	@mkdir -p .venv && touch $@

.venv/clients/ready: scripts/mlflow_clients.py $(wildcard tests/protocol/clients/*.lock) | setup
	$(BIN)/python scripts/mlflow_clients.py
	@touch $@

docs: setup  ## Build the manual, which the server shows at /docs
	$(BIN)/zensical build --strict -f zensical.toml

noria/site/index.html: zensical.toml $(shell find docs -name '*.md') | setup
	$(BIN)/zensical build --strict -f zensical.toml
	@touch $@

.venv/oidc-provider/package.json: | setup  # for tests/access/test_oidc_provider.py; needs node and npm
	npm install --silent --no-audit --no-fund --prefix .venv/oidc-provider oidc-provider@9

demo: setup noria/site/index.html  ## Run the whole loop on real data; server and UI are left running (Ctrl-C stops them)
	$(BIN)/noria demo

test: setup .venv/browser .venv/clients/ready  ## Every test: both databases, real processes, real browser
	$(BIN)/python -m pytest -n 2 --dist loadfile $(T)

test-fast: setup  ## Tests of slices on SQLite, no browser, no real processes; 2 to 3 minutes
	NORIA_TEST_DATABASES=sqlite $(BIN)/python -m pytest -n 2 --dist loadfile -m "not browser and not protocol and not slow" $(T)

test-ray: setup  ## The executor for Ray, with distributed training by Ray Train
	NORIA_RAY=all $(BIN)/python -m pytest -n 0 tests/pipelines/test_executor_ray.py

test-slurm: setup  ## The executor for Slurm against a cluster of one node (root; Debian's slurmctld slurmd slurm-client munge)
	NORIA_SLURM=real $(BIN)/python -m pytest -n 0 tests/pipelines/test_executor_slurm.py

test-kills: setup  ## The server killed 200 times under load, on both databases; nothing acknowledged is lost
	NORIA_KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest -n 0 -s tests/server/test_kills.py -k as_many

test-openapi: setup  ## The API against Schemathesis, on both databases
	test -x .venv/schemathesis/bin/schemathesis || $(BIN)/uv venv --quiet --python $(BIN)/python .venv/schemathesis
	$(BIN)/uv pip install --quiet --python .venv/schemathesis/bin/python schemathesis==4.32.5
	NORIA_SCHEMATHESIS=$(CURDIR)/.venv/schemathesis/bin/schemathesis $(BIN)/python -m pytest -n 0 tests/hostile/test_schemathesis.py

test-flavors: setup .venv/clients/ready  ## A model of XGBoost in an environment that is built for it (FLAVORS=torch: PyTorch)
	UV_TORCH_BACKEND=cpu NORIA_FLAVORS=$(or $(FLAVORS),xgboost) $(BIN)/python -m pytest -n 0 tests/serving/test_workers.py -k other_packages

test-kubernetes: setup  ## The executor for Kubernetes against a real control plane (root, Debian 12; built once)
	$(BIN)/python scripts/kubernetes_control_plane.py
	NORIA_KUBERNETES=real $(BIN)/python -m pytest -n 0 tests/pipelines/test_executor_kubernetes.py

dev: setup noria/site/index.html  ## A server on a scratch home, restarted when the source changes
	$(BIN)/python scripts/dev.py

check: setup  ## Format, lint, types, arrows
	$(BIN)/ruff format --check noria tests examples scripts benchmarks
	$(BIN)/ruff check noria tests examples scripts benchmarks
	$(BIN)/mypy
	NORIA_TEST_DATABASES=sqlite $(BIN)/python -m pytest tests/shape tests/approval tests/docs

format: setup  ## Format the source
	$(BIN)/ruff format noria tests examples scripts benchmarks
	$(BIN)/ruff check --fix noria tests examples scripts benchmarks

approve: setup  ## Write the approval files anew; review their diff
	NORIA_APPROVE=1 $(BIN)/python -m pytest tests/approval tests/docs

bench: setup  ## Measure: make bench T=serving
	$(BIN)/python benchmarks/$(T).py

ci: check test  ## What continuous integration runs

screenshots: setup .venv/browser  ## Pictures of every page, in both themes, into docs/images
	$(BIN)/python scripts/screenshots.py

lock-clients: setup  ## Resolve anew the MLflow versions that the protocol tests speak with
	for each in "2.22 mlflow-skinny==2.22.*" "3.1 mlflow-skinny==3.1.*" "server mlflow"; do set -- $$each; \
		printf '%s\n' "$$2" $$(test $$1 = server || echo numpy pandas) | $(BIN)/uv pip compile - --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/$$1.lock; done
	printf 'deltalake\npylance\npyiceberg[pyarrow,sql-sqlite]\n' | $(BIN)/uv pip compile - --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/tables.lock
	printf 'model-signing\npyopenssl\ncyclonedx-python-lib[json-validation]\nmlcroissant\n' | $(BIN)/uv pip compile - --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/supply.lock
	printf 'kserve\ntritonclient[http,grpc]\n' | $(BIN)/uv pip compile - --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/inference.lock
	for each in ray ray-train; do $(BIN)/uv pip compile tests/protocol/clients/$$each.in --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/$$each.lock; done
	printf 'ipykernel\nnbclient\nblake3\ncloudpickle\nhttpx\nmsgspec\nstamina\n' | $(BIN)/uv pip compile - --universal --generate-hashes --quiet \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o tests/protocol/clients/notebook.lock
	$(BIN)/uv pip compile tests/protocol/clients/autolog.in --override tests/protocol/clients/autolog.overrides --universal \
		--generate-hashes --quiet --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		-o tests/protocol/clients/autolog.lock

lock: setup  ## Resolve the dependencies anew, with hashes
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --quiet --custom-compile-command "make lock" -o requirements.lock

clean:  ## Remove what the tasks above made
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis demo-home noria-home
