# Everything a fresh machine needs is Python 3.11 or later and pip.
PYTHON ?= python3
DEMO_VENV := .demo-venv
VENV := .venv
GPU_VENV := .gpu-venv
# The wheel alone, without the CUDA libraries that crossrank[gpu] brings: they take gigabytes and need a GPU.
GPU_WHEEL := onnxruntime-gpu==1.31.1
DEMO_QUERY := how do vaccines teach the immune system to recognise a virus

export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test clients lint package gpu-wheel examples check default-model clean

# Rerank the shipped passages with the embedded model: base install and the CPU runtime only.
demo: $(DEMO_VENV)/installed
	$(DEMO_VENV)/bin/crossrank rerank --query "$(DEMO_QUERY)" --top-k 10 examples/passages.jsonl

$(DEMO_VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/pip install --quiet --constraint constraints.txt '.[cpu]'
	touch $@

# All that the tests need, then all tests, against the package as users install it.
test: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

# torch first and pinned: unpinned it would pull gigabytes of CUDA libraries.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt '.[dev]'
	touch $@

# Environments of clients of the HTTP service whose requirements exclude each other; tests with them are skipped without.
clients: .clients/chains/installed .clients/aiperf/installed

.clients/%/installed: tests/server/clients/%.txt
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/pip install --quiet --requirement $<
	touch $@

# mypy sees the package only where it is installed, so the number of files it read is checked as well.
lint: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python tests/check_types.py

# Source distribution and wheel: build, size, install, smoke test.
package: $(VENV)/installed
	$(VENV)/bin/python tests/check_package.py

# The GPU build of onnxruntime where there is no GPU: the refusal and its words.
gpu-wheel: $(GPU_VENV)/installed
	$(GPU_VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(GPU_VENV)/bin/python tests/check_gpu_wheel.py

$(GPU_VENV)/installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --constraint constraints.txt '$(GPU_WHEEL)' .
	touch $@

examples: $(VENV)/installed
	for example in examples/*.py; do echo "== $$example"; $(VENV)/bin/python $$example || exit 1; done

check: lint test package gpu-wheel examples

# Export the embedded model again. Its graphs are committed, and every copy stays in the history: do it rarely.
default-model: $(VENV)/installed
	$(VENV)/bin/crossrank export models/default/checkpoint models/default/artifact --force \
		--name default --activation identity --precision int8,fp16

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(GPU_VENV) .clients build dist *.egg-info
