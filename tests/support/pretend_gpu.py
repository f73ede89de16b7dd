"""Pretended GPUs that run on the processor: everything a reranker does for CUDA except the device itself."""

from functools import partial

from crossrank.engine import loaded_model
from crossrank.engine.runtime.cuda.grid_runner import GridRunner
from crossrank.engine.runtime.providers import ProviderResolution


def pretend_gpu(monkeypatch, runner=GridRunner):
    """Let rerankers that ask for CUDA get it."""

    def choose(choice, devices=(0,)):
        return ProviderResolution("cpu" if choice == "cpu" else "cuda", "pretended")

    monkeypatch.setattr(loaded_model, "choose_provider", choose)
    monkeypatch.setattr(loaded_model, "cuda_device_name", lambda _: "pretended")
    monkeypatch.setattr(loaded_model, "GridRunner", partial(runner, provider="cpu"))
