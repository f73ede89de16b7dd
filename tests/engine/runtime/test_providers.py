"""Provider and precision: never anything other than what was asked for, and `auto` says why."""

from types import SimpleNamespace

import pytest
from tiny_artifacts import copy_artifact

from crossrank.engine import loaded_model as model
from crossrank.engine.runtime import onnxruntime_build as runtime_build
from crossrank.engine.runtime import providers
from crossrank.engine.runtime.providers import choose_graph, choose_provider
from crossrank.errors import PrecisionError, ProviderError
from crossrank.models.artifact import Artifact

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def runtime(monkeypatch):
    """Pretend an onnxruntime: what it lists, and what its sessions really run on (or the error they raise)."""

    def pretend(available, placed=None):
        def session(model, options, providers, enable_fallback):
            assert not enable_fallback, "onnxruntime would print, and try the CPU"
            if isinstance(placed, Exception):
                raise placed
            return SimpleNamespace(disable_fallback=lambda: None, get_providers=lambda: placed)

        fake = SimpleNamespace(
            __version__="9.9",
            get_available_providers=lambda: available,
            SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda *_: None),
            InferenceSession=session,
        )
        monkeypatch.setattr(providers, "load_onnxruntime", lambda: fake)
        monkeypatch.setattr(providers, "installed_builds", lambda: ("onnxruntime-gpu",))

    return pretend


def test_cuda_is_taken_where_a_node_really_runs_on_it(runtime):
    runtime([CUDA, CPU], placed=[CUDA, CPU])
    assert choose_provider("auto").provider == choose_provider("cuda").provider == "cuda"
    assert choose_provider("auto").reason == "auto: CUDA works here"
    assert choose_provider("cpu").provider == "cpu"


@pytest.mark.parametrize(
    ("available", "placed", "reason", "fix"),
    [
        ([CPU], None, "built without CUDA", r"pip install 'crossrank\[gpu\]'"),
        ([CUDA, CPU], [CPU], f"put the graph on {CPU}", "nvidia-smi"),
        ([CUDA, CPU], RuntimeError("libcudnn.so.9: cannot open"), "libcudnn", "nvidia-smi"),
    ],
)
def test_cuda_that_does_not_work_is_an_error_with_its_fix_and_auto_says_why_it_was_not_chosen(
    runtime, available, placed, reason, fix
):
    runtime(available, placed)
    with pytest.raises(ProviderError, match=f"(?s)provider='cuda' does not work here: .*{reason}.*{fix}"):
        choose_provider("cuda")
    chosen = choose_provider("auto")
    assert chosen.provider == "cpu"
    assert chosen.reason.startswith("auto: ")
    assert reason in chosen.reason
    assert choose_provider("cpu").reason == "asked for"


def test_with_both_builds_installed_the_fix_is_to_remove_one(runtime, monkeypatch):
    runtime([CPU])
    monkeypatch.setattr(providers, "installed_builds", lambda: ("onnxruntime", "onnxruntime-gpu"))
    with pytest.raises(ProviderError, match=r"both installed.*pip uninstall -y onnxruntime onnxruntime-gpu"):
        choose_provider("cuda")


def test_a_gpu_that_is_not_there_is_named(runtime):
    runtime([CUDA, CPU], RuntimeError("CUDA failure 101: invalid device ordinal"))
    with pytest.raises(ProviderError, match=r"onnxruntime 9\.9, GPU 4\): CUDA failure 101"):
        choose_provider("cuda", [4, 0])


@pytest.mark.parametrize(("available", "surprising"), [([CPU], False), ([CUDA, CPU], True)])
def test_falling_back_to_the_cpu_is_surprising_only_with_the_gpu_build(runtime, available, surprising):
    runtime(available, RuntimeError("libcudnn.so.9: cannot open"))
    assert choose_provider("auto").surprising == surprising
    assert not choose_provider("cpu").surprising


@pytest.mark.parametrize(("surprising", "level"), [(False, "INFO"), (True, "WARNING")])
def test_a_reranker_that_falls_back_to_the_cpu_logs_one_line(reranker, monkeypatch, caplog, surprising, level):
    fallen = providers.ProviderResolution("cpu", "auto: libcudnn.so.9: cannot open", surprising)
    monkeypatch.setattr(model, "choose_provider", lambda *_: fallen)
    with caplog.at_level("INFO", logger="crossrank"):
        reranker(provider="auto")
        reranker(provider="cpu")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("crossrank", level)
    assert record.getMessage() == "crossrank scores on the CPU: auto: libcudnn.so.9: cannot open"


def test_the_onnxruntime_here_runs_the_probe_model():
    onnxruntime = runtime_build.load_onnxruntime()
    session = onnxruntime.InferenceSession(providers._PROBE_MODEL, providers=[CPU])
    names = [item.name for item in session.get_inputs()]
    one = [[1.0, 0.0], [0.0, 1.0]]
    (product,) = session.run(None, dict.fromkeys(names, one))
    assert product.tolist() == one


def test_a_reranker_on_a_build_without_cuda_refuses_cuda_and_reports_its_provider(reranker):
    onnxruntime = runtime_build.load_onnxruntime()
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ProviderError, match=r"built without CUDA.*crossrank\[gpu\]"):
        reranker(provider="cuda")
    info = reranker(provider="auto").info()
    assert (info.provider, info.onnxruntime_version) == ("cpu", onnxruntime.__version__)
    assert "built without CUDA" in info.provider_reason


@pytest.fixture
def offering(tiny_artifact, tmp_path):
    """A function that opens an artifact whose manifest has graphs of the given precisions and providers."""

    def make(*graphs):
        opened = Artifact.open(tiny_artifact)
        template = opened.manifest.graphs[0]
        made = tuple(
            template.model_copy(update={"precision": kind, "providers": tuple(where)}) for kind, *where in graphs
        )
        return Artifact.open(copy_artifact(tiny_artifact, tmp_path / "offering", graphs=made))

    return make


ALL = [("fp32", "cpu", "cuda"), ("int8", "cpu"), ("fp16", "cuda")]


@pytest.mark.parametrize(
    ("graphs", "provider", "choice", "expected"),
    [
        (ALL, "cpu", "auto", "int8"),
        (ALL, "cuda", "auto", "fp16"),
        (ALL, "cpu", "fp32", "fp32"),
        (ALL, "cuda", "fp32", "fp32"),
        (ALL, "cpu", "fp16", "fp16"),
        ([("fp32", "cpu")], "cpu", "auto", "fp32"),
        ([("fp32", "cpu", "cuda"), ("int8", "cpu")], "cuda", "auto", "fp32"),
        ([("fp16", "cuda")], "cpu", "auto", "fp16"),
    ],
)
def test_the_graph_is_the_one_asked_for_or_the_providers_best(offering, graphs, provider, choice, expected):
    assert choose_graph(offering(*graphs), provider, choice).precision == expected


def test_a_graph_made_for_the_cpu_is_preferred_there_to_one_of_the_same_precision_for_cuda(offering):
    artifact = offering(("fp32", "cuda"), ("fp32", "cpu"))
    assert choose_graph(artifact, "cpu", "fp32").providers == ("cpu",)


@pytest.mark.parametrize(
    ("graphs", "provider", "choice", "message"),
    [
        (
            ALL,
            "cuda",
            "int8",
            "no int8 graph for provider 'cuda'; it has fp32 for cpu/cuda, int8 for cpu, fp16 for cuda",
        ),
        ([("fp32", "cpu")], "cpu", "int8", "no int8 graph .*it has fp32 for cpu.*--precision int8"),
        ([("fp32", "cpu")], "cpu", "fp16", "no fp16 graph .*--precision fp16"),
        ([("int8", "cpu")], "cuda", "auto", "no graph for provider 'cuda'; it has int8 for cpu.*--precision fp16"),
    ],
)
def test_a_graph_that_is_not_there_is_an_error_that_says_what_there_is(offering, graphs, provider, choice, message):
    with pytest.raises(PrecisionError, match=message):
        choose_graph(offering(*graphs), provider, choice)


def test_auto_takes_int8_on_this_processor_and_info_says_so(reranker):
    info = reranker(precision="auto").info()
    assert (info.precision, info.batching, info.provider) == ("int8", "single", "cpu")
    assert reranker(precision="fp32").info().batching == "padded"
    assert info.graph_sha256 != reranker(precision="fp32").info().graph_sha256


def test_a_precision_that_the_artifact_lacks_is_refused(reranker):
    with pytest.raises(PrecisionError, match="'tiny-bert' has no fp16 graph"):
        reranker(precision="fp16")


def test_fp16_made_for_cuda_can_be_checked_on_the_cpu(tiny_checkpoint, tiny_graphs, tmp_path, reranker, scored):
    from tiny_artifacts import write_artifact

    folder = write_artifact(tmp_path / "half", tiny_checkpoint("bert"), tiny_graphs, precisions=("fp32", "fp16"))
    engine = reranker(folder, precision="fp16")
    assert engine.info().precision == "fp16"
    scores = engine.score(scored.query, scored.documents[:10])
    assert scores == pytest.approx(scored.logits[:10], abs=2e-2)
    assert abs(scores - scored.logits[:10]).max() > 1e-5
