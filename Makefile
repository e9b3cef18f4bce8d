PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
BIN := .venv/bin
CHECK := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=12
export OPENBLAS_NUM_THREADS ?= 1
# The tests start some hundred processes: each would compile every module again where byte code is not kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo docs lint test test-portable test-slow test-figures fuzz contract chaos soak check bench lock audit sbom licences release chart bucket psychopy clean

setup: .venv/.ready ## a virtual environment with the pinned dependencies

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup ## a simulated session through the real service; ONCE=1 ends by itself and prints JSON
	$(BIN)/mindsight demo $(if $(ONCE),--once)

docs: setup ## the documentation as a site, into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/site/index.html

lint: setup ## style, types, import rules
	$(CHECK)

soak: setup ## eight consoles scan, one visit after another: does anything grow? MINUTES=240 to be sure (default 10)
	$(BIN)/python tests/soak.py $(if $(MINUTES),--minutes $(MINUTES))

check: lint audit ## and published faults of what is installed

# The kernels are compiled once, while the tests are collected: else every process compiles its own.
test: setup ## everything that must hold
	@$(BIN)/python -c "from workers.ingest.warm_up import warm_up; warm_up()" & compiling=$$!; \
	$(PYTEST); tested=$$?; \
	wait $$compiling && exit $$tested

test-portable: setup ## the numerical tests again with the kernels of other processors, on one thread and on two
	$(BIN)/python tests/portable.py

test-slow: setup ## the long forms of checks that `make test` makes in short
	$(PYTEST) -m slow

test-figures: setup ## published figures, measured again: an hour of two cores, before a release
	$(PYTEST) -m figures

fuzz: setup ## changed inputs through every reader; N=1000000 of each
	$(BIN)/python tests/fuzz.py $(if $(N),--n $(N))

contract: setup ## requests made from the description of the interface, against a running gateway; N=50000
	MINDSIGHT_TEST_CASES=$(or $(N),5000) $(BIN)/python -m pytest -q -s -m slow tests/service/test_contract.py

chaos: setup ## every process killed, restarted, paused and starved while sessions stream; BLOWS=200 SESSIONS=4 SEED=1 EVERY=10, or FAIL_POINTS=1, or ZOMBIES=100
	$(BIN)/python tests/chaos.py $(if $(BLOWS),--blows $(BLOWS)) $(if $(SESSIONS),--sessions $(SESSIONS)) $(if $(SEED),--seed $(SEED)) $(if $(EVERY),--every $(EVERY)) $(if $(FAIL_POINTS),--fail-points) $(if $(ZOMBIES),--zombies $(ZOMBIES))

.venv/.bench: .venv/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

bench: .venv/.bench ## speed, side by side with peers; appends to benchmarks/history/; WHOLE=1 takes the long way
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file $(if $(WHOLE),--whole) || exit 1; done

.venv/.release: .venv/.ready deploy/locks/release.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement deploy/locks/release.txt
	touch $@

lock: .venv/.release ## pin what is installed now, with the sha256 of every file; what Python 3.10 takes instead stays
	grep 'python_version < ' constraints.txt > .venv/older
	{ cat .venv/older; $(BIN)/python -m pip freeze --exclude-editable | sed 's/ @ .*//; s/+cpu//' \
	  | awk -F== 'FNR == NR { older[$$1]; next } { print $$0 ($$1 in older ? "; python_version >= \"3.11\"" : "") }' \
	    .venv/older - ; } | sort -f > .venv/pinned
	mv .venv/pinned constraints.txt
	$(BIN)/python deploy/lock.py

audit: .venv/.release ## published faults of the locked versions, where their database can be reached
	$(BIN)/python deploy/audit.py

sbom: .venv/.release ## what each install holds (CycloneDX), into build/sbom/
	mkdir -p build/sbom
	for lock in deploy/locks/*.txt; do \
	  $(BIN)/cyclonedx-py requirements $$lock --output-file build/sbom/$$(basename $$lock .txt).cdx.json || exit 1; done

licences: .venv/.release ## the licence of every package that is installed, into docs/licences.md
	$(BIN)/python deploy/licences.py

release: .venv/.release ## wheel and source archive of the tag that is checked out, into build/release/
	$(BIN)/python deploy/release.py

.venv/.chart: .venv/.ready deploy/locks/chart.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement deploy/locks/chart.txt
	touch $@

chart: .venv/.chart ## the Helm chart, linted and rendered by Helm and checked against Kubernetes' schemas
	$(BIN)/python -m pytest -q tests/deploy/test_chart.py

.venv/.bucket: .venv/.ready deploy/locks/bucket.txt
	$(BIN)/python -m pip install --quiet --require-hashes --requirement deploy/locks/bucket.txt
	touch $@

bucket: .venv/.bucket ## payloads in a bucket: a server of S3's protocol, a whole session, an outage
	$(BIN)/python -m pytest -q -m 'slow or not slow' tests/blobs tests/system/test_bucket.py tests/operations/test_doctor.py

# A laboratory's own: PsychoPy's packages are not ours, and Mindsight is there as a console has it.
.venv/.psychopy/ready: .venv/.ready
	$(BIN)/python -m venv .venv/.psychopy
	.venv/.psychopy/bin/pip install --quiet psychopy==2026.2.5
	.venv/.psychopy/bin/pip install --quiet --editable .
	touch $@

psychopy: .venv/.psychopy/ready ## the examples for PsychoPy with PsychoPy itself, on a screen in memory (Xvfb)
	$(BIN)/python -m pytest -q -m slow tests/examples/test_psychopy.py

clean:
	rm -rf .venv build *.egg-info mindsight-data
