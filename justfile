# The verbs of Tallystream. `just` lists them; each installs what it needs.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")
uv := env("UV", "uv")

# List the recipes
default:
    @just --list --unsorted

# Install everything into .venv from requirements.lock, and compile it: processes start in half the time
[no-exit-message]
setup:
    @test -f .venv/.installed -a .venv/.installed -nt requirements.lock -a .venv/.installed -nt pyproject.toml || { \
        test -x .venv/bin/python || {{uv}} venv --quiet --python '>=3.11' .venv; \
        {{uv}} pip install --quiet --require-hashes --compile-bytecode -r requirements.lock; \
        {{uv}} pip install --quiet --no-deps --no-build-isolation -e .; \
        touch .venv/.installed; \
    }
    @.venv/bin/python -m compileall -q domains bus projections gateway bench

# Start everything in the foreground; Ctrl-C stops it
[no-exit-message]
up *ARGS: setup
    @exec tally up {{ARGS}}

# Drive 1,000 orders through a fresh system, show what happened, stop everything
[no-exit-message]
demo *ARGS: setup
    @exec tally demo {{ARGS}}

# Import a folder in the format of the Olist dataset and reconcile it
[no-exit-message]
import DIR *ARGS: setup
    @exec tally import {{ARGS}} {{quote(DIR)}}

# Rebuild a read model beside the live one, compare, switch
[no-exit-message]
rebuild NAME *ARGS: setup
    @exec tally rebuild {{ARGS}} {{quote(NAME)}}

# Print the timeline of one order: what it caused, where and when
replay ORDER *ARGS: setup
    @exec tally replay {{ARGS}} {{quote(ORDER)}}

# Any verb of the command line: `just tally --help` lists them
[no-exit-message]
tally *ARGS: setup
    @exec tally "$@"

# Run the whole test suite, or what is named, in one process then
test *ARGS: setup
    PYTHONDONTWRITEBYTECODE= pytest {{ if ARGS == "" { "--numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0" } else { ARGS } }}

# Format, lint, types, import contracts, messages: nothing is changed, everything is checked
check: setup
    ruff format --check .
    ruff check .
    mypy
    lint-imports
    python -m gateway.contracts.schemas

# Add new messages and versions to the register, domains/schemas.json
schemas: setup
    python -m gateway.contracts.schemas --write

# Generate the messages of gateway/grpc/proto from its .proto files
protos: setup
    cd gateway/grpc/proto && python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. $(find . -name '*.proto')

# Format and mend what can be mended by itself
format: setup
    ruff format .
    ruff check --fix .

# The long fault runs, all or some: `just faults engine`, the write path; `just faults shop`, 10,000 random orders
faults *ARGS: setup
    pytest -o addopts= --timeout 3600 --benchmark-skip -ra \
        {{ if ARGS =~ '^engine\b' { replace_regex(ARGS, '^engine\b', 'tests/faults') } \
        else if ARGS =~ '^shop\b' { replace_regex(ARGS, '^shop\b', '-m long tests/journeys/test_money.py') } \
        else { '-m long tests ' + ARGS } }}

# Measure: `just bench append` against its baselines; without a name the pure parts
bench WHAT="" *ARGS: setup
    {{ if WHAT == "" { "pytest -o addopts= bench" } else { "python -m bench " + quote(WHAT) } }} {{ARGS}}

# A system in trouble, with and without what helps, under the same load: `just scenario payment-timeout`
scenario NAME *ARGS: setup
    python -m bench.scenarios {{quote(NAME)}} {{ARGS}}

# What CI runs: check and test
ci: check test

# Write requirements.lock anew from pyproject.toml
lock:
    {{uv}} pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
        --extra bench --extra graphql --extra grpc --extra otel --extra tls --group dev pyproject.toml -o requirements.lock
