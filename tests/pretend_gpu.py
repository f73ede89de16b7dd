"""GPUs that are this machine's processor: everything a reranker does for CUDA, but for the device itself."""

from functools import partial

from crossrank.engine import runners, scorer
from crossrank.engine.grid_runner import GridRunner
from crossrank.engine.providers import ProviderResolution


def pretend_gpu(monkeypatch, runner=GridRunner):
    """Let rerankers that ask for CUDA find it."""

    def choose(choice, devices=(0,)):
        return ProviderResolution("cpu" if choice == "cpu" else "cuda", "pretended")

    monkeypatch.setattr(scorer, "choose_provider", choose)
    monkeypatch.setattr(scorer, "cuda_device_name", lambda _: "pretended")
    monkeypatch.setattr(runners, "GridRunner", partial(runner, provider="cpu"))
