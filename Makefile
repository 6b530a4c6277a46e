# make demo         train, be killed, resume bit for bit, and a measured comparison with torch.save
# make test         all tests: native and Python
#
# Both set up what they need: system packages, a virtual environment in .venv, the package built from source.
# The package is installed in editable form: a change of Python code counts at once, and after a change of C++ code
# the next make compiles only what changed.
#
# make test-large   the tests that need several GiB of memory and disk
# make soak         kills programs hundreds of times (SOAK_KILLS, SOAK_SEED) and looks at what they find again
# make lint         ruff, mypy, stubtest, clang-format        make format    lets them rewrite the sources
# make sanitize     native tests and pytest under sanitizers  make bench     the benchmarks, into benchmarks/results
# make fuzz         fuzzes all parsers, FUZZ_SECONDS for each  (FUZZ_TARGETS: only these)
# make wheel        a wheel in dist/, tried in an environment of its own
# make clean        removes everything that make made

PYTHON ?= python3
# Any torch will do. This one is exact, so that runs are comparable; for one without CUDA from PyTorch's own index:
# make TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu'
TORCH ?= torch==2.13.0
export PYTHON TORCH

BIN := .venv/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cmake/* csrc/* csrc/*/*)
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # each of the programs that tests start would compile the package again

.PHONY: demo test python-tests test-large soak native-tests lint format sanitize fuzz bench wheel clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/python examples/demo.py

test: native-tests
	$(MAKE) --no-print-directory python-tests

python-tests: .venv/installed .peers/torchsnapshot
	tools/system_packages.sh redis-server
	tools/python_tests.sh

test-large: .venv/installed
	$(BIN)/python -m pytest -m large

soak: .venv/installed
	PYTHONPATH=tests:tests/support $(BIN)/python -m soak

native-tests: .venv/created
	tools/system_packages.sh doctest-dev
	tools/native_tests.sh release

lint: .venv/installed
	tools/lint.sh

format: .venv/installed
	tools/lint.sh --fix

sanitize: .venv/installed .peers/torchsnapshot
	tools/system_packages.sh doctest-dev redis-server
	tools/sanitize.sh

fuzz: .venv/installed
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable .[dev,fuzz]
	tools/fuzz.sh $(FUZZ_TARGETS)

bench: .venv/installed
	tools/system_packages.sh fio
	$(BIN)/python -m benchmarks.peers && $(BIN)/python -m benchmarks

wheel: .venv/installed
	tools/wheel.sh

clean:
	rm -rf .venv .peers build dist

.venv/created:
	tools/system_packages.sh
	tools/create_venv.sh

.venv/installed: .venv/created $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable .[dev]
	touch $@

# The original torchsnapshot, for the tests of interoperation; beside our package, as both have the same import name.
.peers/torchsnapshot: benchmarks/peers.py | .venv/created
	$(BIN)/python -m benchmarks.peers torchsnapshot
	touch $@
