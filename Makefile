# Everything a fresh machine needs is Python 3.11 or later and pip.
PYTHON ?= python3
DEMO_VENV := .demo-venv
VENV := .venv
GPU_VENV := .gpu-venv
TRANSFORMERS_5_VENV := .transformers-5-venv
OLDEST_VENV := .oldest-venv
NEWEST_VENV := .newest-venv
DOCS_VENV := .docs-venv
RAY_VENV := .ray-venv
ADAPTERS := langchain llama-index haystack
# The build for CPUs: any other version of torch that PyPI has for Linux brings gigabytes for CUDA.
CPU_TORCH := torch==2.13.0
# Tests of what depends on versions of libraries; the others test crossrank's own arithmetic, benchmarks and evaluation.
VERSIONED_TESTS := tests/models tests/engine tests/export tests/api tests/bulk tests/cli \
	$(addprefix tests/server/test_,http_settings.py refusals.py rerank_routes.py service_process.py)
# The wheel alone, without the CUDA libraries that crossrank[gpu] brings: they take gigabytes and need a GPU.
GPU_WHEEL := onnxruntime-gpu==1.31.1
DEMO_QUERY := how do vaccines teach the immune system to recognise a virus

export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test clients adapters lint package gpu-wheel examples docs pictures notebook check default-model default-small-model clean \
	transformers-5 oldest newest ray check-all

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

# Environments of clients of the HTTP service whose requirements exclude each other; without them their tests are skipped.
clients: .clients/chains/installed .clients/infinity/installed .clients/aiperf/installed .clients/kserve/installed

.clients/%/installed: tests/server/clients/%.txt
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/pip install --quiet --requirement $<
	touch $@

# Each adapter beside the newest release of its framework that was tried; each reports for itself, and one that fails does
# not keep the next from running.
adapters: $(ADAPTERS:%=.adapters/%/installed)
	@failed=; for name in $(ADAPTERS); do \
		echo "== $$name"; \
		.adapters/$$name/bin/pip install --quiet --no-deps --force-reinstall . && \
		.adapters/$$name/bin/python -m pytest tests/integrations/test_$$(echo $$name | tr - _).py $(PYTEST_ARGS) || \
		failed="$$failed $$name"; \
	done; \
	test -z "$$failed" || { echo "adapters that fail:$$failed"; exit 1; }

.adapters/%/installed: tests/integrations/adapters/%.txt tests/integrations/adapters/tests.txt pyproject.toml
	$(PYTHON) -m venv .adapters/$*
	.adapters/$*/bin/pip install --quiet --requirement $< --requirement tests/integrations/adapters/tests.txt '.[cpu,$*]'
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

# The documentation's site into .site/, with a page of every command and option: every warning is an error.
docs: $(DOCS_VENV)/installed
	$(DOCS_VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(DOCS_VENV)/bin/python docs/making/commands.py
	$(DOCS_VENV)/bin/python docs/making/notebook.py
	$(DOCS_VENV)/bin/zensical build --clean --strict
	$(DOCS_VENV)/bin/python docs/making/finish.py

$(DOCS_VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --constraint constraints.txt '.[docs]'
	touch $@

# Pictures of the documentation that no benchmark draws; a test compares them with the committed ones.
pictures: $(VENV)/installed
	$(VENV)/bin/python docs/making/draw.py

# Runs the notebook and keeps what it printed.
notebook: $(VENV)/installed
	$(VENV)/bin/python docs/making/notebook.py --run

check: lint package gpu-wheel examples docs test

# Beside sentence-transformers 6.2 and transformers 5, where optimum-onnx cannot be: exports of every family by torch.onnx.
transformers-5: $(TRANSFORMERS_5_VENV)/installed
	$(TRANSFORMERS_5_VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(TRANSFORMERS_5_VENV)/bin/python -m pytest tests/export tests/models tests/api tests/cli $(PYTEST_ARGS)

$(TRANSFORMERS_5_VENV)/installed: pyproject.toml constraints-transformers-5.txt
	$(PYTHON) -m venv $(TRANSFORMERS_5_VENV)
	$(TRANSFORMERS_5_VENV)/bin/pip install --quiet --constraint constraints-transformers-5.txt torch
	$(TRANSFORMERS_5_VENV)/bin/pip install --quiet --constraint constraints-transformers-5.txt \
		'sentence-transformers>=6.2' '.[cpu,export,test]'
	touch $@

# The lowest version of everything that pyproject.toml allows.
oldest: $(OLDEST_VENV)/installed
	$(OLDEST_VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(OLDEST_VENV)/bin/python -m pytest $(VERSIONED_TESTS) $(PYTEST_ARGS)

$(OLDEST_VENV)/installed: pyproject.toml tests/support/lowest_versions.py
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/pip install --quiet packaging
	$(OLDEST_VENV)/bin/python tests/support/lowest_versions.py pyproject.toml > $(OLDEST_VENV)/constraints.txt
	$(OLDEST_VENV)/bin/pip install --quiet --constraint $(OLDEST_VENV)/constraints.txt torch
	$(OLDEST_VENV)/bin/pip install --quiet --constraint $(OLDEST_VENV)/constraints.txt \
		'.[bulk,cpu,optimum,server,test]'
	touch $@

# The newest version of everything, as a user gets it today; made anew every time.
newest:
	rm -rf $(NEWEST_VENV)
	$(PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/pip install --quiet '$(CPU_TORCH)'
	$(NEWEST_VENV)/bin/pip install --quiet '$(CPU_TORCH)' sentence-transformers '.[bulk,cpu,export,server,test]'
	$(NEWEST_VENV)/bin/python -m pytest $(VERSIONED_TESTS) $(PYTEST_ARGS)

# Ray on this machine with two workers, and Spark where Java is installed.
ray: $(RAY_VENV)/installed
	$(RAY_VENV)/bin/pip install --quiet --no-deps --force-reinstall .
	$(RAY_VENV)/bin/python -m pytest tests/integrations/test_ray_datasets.py tests/integrations/test_ray_serving.py \
		tests/integrations/test_spark_example.py $(PYTEST_ARGS)

$(RAY_VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/pip install --quiet --constraint constraints.txt '.[cpu,ray,test]' httpx pyspark
	touch $@

# Every environment, one after the other; far longer than the run that every change takes.
check-all: clients check adapters transformers-5 oldest newest ray

# Export the embedded model again. Its graphs are committed, and every copy stays in the history: do it rarely.
default-model: $(VENV)/installed
	$(VENV)/bin/crossrank export models/default/checkpoint models/default/artifact --force \
		--name default --activation identity --precision int8,fp16

# The same for its companion, which is embedded in int8 only. Its checkpoint is what the recipe trains.
default-small-model: $(VENV)/installed
	$(VENV)/bin/crossrank export models/default-small/checkpoint models/default-small/artifact --force \
		--name default-small --activation identity --precision int8

clean:
	rm -rf .site .cache $(VENV) $(DOCS_VENV) $(DEMO_VENV) $(GPU_VENV) $(TRANSFORMERS_5_VENV) $(OLDEST_VENV) $(NEWEST_VENV) $(RAY_VENV) \
		.clients .adapters build dist *.egg-info
