# What a person types. Everything sets itself up first, and does nothing when nothing has changed.
# Python tools run from .venv, which uv makes from uv.lock; uv itself comes into .tools, by pip.

UV_VERSION := 0.13.9
PYTHON ?=
WORKERS ?= 2
SEEDS ?= 1
ARGS ?=

SYNCED := .venv/.synced
WARM := .venv/.warm
UV := .tools/bin/uv
UV_STAMP := .tools/.uv-$(UV_VERSION)

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_REQUIRE_VIRTUALENV := 0
export PIP_USER := 0
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo dev test lint types check check-definitions docs audit clean clean-data \
	test-processes test-faults test-fuzz test-hosts test-scale

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  make demo ONCE=1                    ends after the summary'
	@echo '  make demo DATA=folder ARGS="--sample-rate 1000 --no-header"   with your own CSV files'
	@echo '  make test WORKERS=4 ARGS="-k claim" how many tests at once, and which'
	@echo '  make setup PYTHON=python3.12        another interpreter'

setup: $(WARM) ## install everything from the lock into .venv, and compile what is compiled once

demo: $(WARM) ## simulated motors through the whole pipeline, then Dagster's UI until Ctrl-C
	@exec .venv/bin/signal-pipeline demo $(if $(ONCE),--once) $(if $(DATA),--data "$(DATA)") $(ARGS)

dev: $(WARM) ## Dagster's UI and daemon on the current settings
	@exec .venv/bin/signal-pipeline dev $(ARGS)

# never on the user's database: the tests start one of their own
test: $(WARM) ## all tests, on an embedded Postgres of their own
	@exec $(PYTEST) .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# the long runs of suites that `make test` runs briefly; minutes to an hour, as named
PYTEST := env -u DATABASE_URL -u DAGSTER_DATABASE_URL
LONG := .venv/bin/python -m pytest -n0 -o timeout=3600

test-processes: $(WARM) ## two processes on 1000 signals, killed on the way (minutes)
	@exec $(PYTEST) SIGNAL_PIPELINE_TESTS_SIGNALS=1000 $(LONG) signal_pipeline_tests/orchestration/test_processes.py $(ARGS)

# four at once, on two cores too: most of a story is waiting for a lease; and whoever has nothing left takes of another's
test-faults: WORKERS := 4
test-faults: $(WARM) ## kill, cut, fill and feed it, SEEDS=20 for the whole; writes docs/reliability.md
	@exec $(PYTEST) SIGNAL_PIPELINE_TESTS_SEEDS=$(SEEDS) SIGNAL_PIPELINE_TESTS_SIGNALS=1000 SIGNAL_PIPELINE_WRITE_RELIABILITY=1 \
		.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal -m faults -o timeout=3600 signal_pipeline_tests/faults $(ARGS)

test-fuzz: $(WARM) ## 10,000 hostile files and blobs; SIGNAL_PIPELINE_TESTS_SEED=7 for others
	@exec $(PYTEST) SIGNAL_PIPELINE_TESTS_FUZZ=10000 $(LONG) \
		signal_pipeline_tests/hostile/test_csv_fuzz.py signal_pipeline_tests/hostile/test_blob_fuzz.py $(ARGS)

test-hosts: $(WARM) ## two hosts in network namespaces, 1000 signals, one cut off half way (root)
	@exec $(PYTEST) SIGNAL_PIPELINE_TESTS_HOSTS_SIGNALS=1000 $(LONG) signal_pipeline_tests/hosts $(ARGS)

test-scale: $(WARM) ## query plans over 10 million feature rows (tens of GB of disk)
	@exec $(PYTEST) SIGNAL_PIPELINE_TESTS_FEATURE_ROWS=10000000 $(LONG) signal_pipeline_tests/db/test_plans_at_scale.py $(ARGS)

audit: $(SYNCED) ## known vulnerabilities of the locked dependencies; says so when nobody could be asked
	@PYTHONPATH=. .venv/bin/python signal_pipeline_tests/hostile/audit.py

lint: $(SYNCED) ## ruff, mypy, and the rules of who may import whom; all of them, whichever fails
	@failed=; for tool in 'ruff check' 'ruff format --check' 'lint-imports --no-logo' mypy; do \
		echo "$$tool"; .venv/bin/$$tool || failed="$$failed; $$tool"; \
	done; [ -z "$$failed" ] || { echo "failed$$failed" >&2; exit 1; }

types: $(SYNCED) ## mypy alone
	.venv/bin/mypy

# in an empty home: whether the code is sound has nothing to do with where Dagster stores its runs
check-definitions: $(SYNCED) ## whether Dagster can load the definitions
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && touch "$$home/dagster.yaml" && DAGSTER_HOME="$$home" .venv/bin/dagster definitions validate

docs: $(SYNCED) ## the documentation's site, into site/
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet && echo "open site/index.html"

check: lint check-definitions test ## all that has to pass before a commit

clean: ## remove .venv, .tools and all caches; keeps data
	rm -rf .venv .tools .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# for root the data may lie elsewhere (docs/decisions/0040); only what we made there goes
clean-data: ## remove the embedded database and Dagster's home, with everything in them
	@home="$${SIGNAL_PIPELINE_HOME:-.signal_pipeline}"; data=$$(readlink "$$home/postgres/pg18"); \
	case "$$data" in /var/lib/signal_pipeline/home-*/pg18) rm -rf "$${data%/pg18}";; esac; \
	rm -rf "$$home"; echo "removed $$home"

# --- set-up ---------------------------------------------------------------------------------------------------------

# A .venv holds absolute paths and one interpreter: another folder, or another PYTHON than last time, make it anew.
ifneq ($(wildcard $(SYNCED)),)
ifneq ($(shell sed -n 1p $(SYNCED)),$(CURDIR))
.PHONY: $(SYNCED)
endif
ifneq ($(PYTHON),)
ifneq ($(shell sed -n 2p $(SYNCED)),$(PYTHON))
.PHONY: $(SYNCED)
endif
endif
endif

# Sets $$python, or ends with what is wrong. An interpreter must be in the range that pyproject.toml names.
define find_python
python=; \
for name in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
	if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; then \
		python=$$("$$name" -c 'import sys; print(sys.executable)'); break; \
	fi; \
done; \
if [ -z "$$python" ]; then \
	echo "error: no Python from 3.11 to 3.14 found$(if $(PYTHON), as PYTHON=$(PYTHON));" \
		"$$("$(or $(PYTHON),python3)" --version 2>&1 || true). Install one, or name one: make PYTHON=python3.12" >&2; \
	exit 1; \
fi
endef

# a Python without pip mostly brings one for its virtual environments; a wheel can be run as it is
define BUNDLED_PIP
import ensurepip, pathlib
print(*sorted(pathlib.Path(ensurepip.__file__).with_name("_bundled").glob("pip-*.whl")))
endef
export BUNDLED_PIP

# pip if there is one, else an installed uv, else the pip that Python brings
$(UV_STAMP):
	@$(find_python); rm -rf .tools; mkdir -p .tools/bin; \
	pip="-m pip"; \
	if ! "$$python" -m pip --version >/dev/null 2>&1; then \
		if command -v uv >/dev/null; then \
			echo "$$python has no pip: using $$(uv --version)"; ln -s "$$(command -v uv)" $(UV); touch $@; exit 0; \
		fi; \
		pip=$$("$$python" -c "$$BUNDLED_PIP" 2>/dev/null); \
		if [ -z "$$pip" ]; then \
			echo "error: $$python has no pip and brings none, and there is no uv:" \
				"install either (on Debian python3-pip)" >&2; exit 1; \
		fi; \
		pip="$$pip/pip"; \
	fi; \
	echo "fetching uv $(UV_VERSION) into .tools"; \
	"$$python" $$pip install --quiet --no-input --only-binary :all: --upgrade --target .tools uv==$(UV_VERSION) && touch $@

# the groups are always the same: a demo without the tools of the tests would take them away from the next test
$(SYNCED): pyproject.toml uv.lock $(UV_STAMP)
	@if [ -f $@ ] && [ "$$(sed -n 1p $@)" != "$(CURDIR)" ]; then rm -rf .venv; fi
	@$(find_python); \
	[ -w "$${HOME:-/nonexistent}" ] || export UV_CACHE_DIR="$$PWD/.tools/cache"; \
	if [ -x .venv/bin/python ] && [ -z "$(PYTHON)" ]; then python=.venv/bin/python; fi; \
	$(UV) sync --locked --extra plots --compile-bytecode --python "$$python"
	@printf '%s\n%s\n' "$(CURDIR)" "$(PYTHON)" > $@

$(WARM): $(SYNCED) $(wildcard signal_pipeline/dsp/*.py)
	@.venv/bin/signal-pipeline warm-up
	@touch $@
