"""From a model's name to its artifact: precedence, exports made once, what is never downloaded, and messages."""

import shutil
from pathlib import Path

import pytest
from fresh_python import run_python
from tiny_artifacts import rewrite_manifest

from crossrank.errors import ArtifactError, InvalidInputError, ModelNotFoundError, ProviderError
from crossrank.models.embedded import EMBEDDED_MODELS
from crossrank.resolve import resolve_model

COMMIT, NEWER = "a" * 40, "b" * 40


@pytest.fixture
def checkpoint(tmp_path):
    """A folder that looks like a checkpoint to everything but an exporter."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_an_artifact_folder_is_itself(tiny_artifact, cache, exports, monkeypatch):
    assert resolve_model(tiny_artifact) == resolve_model(str(tiny_artifact)) == tiny_artifact
    monkeypatch.chdir(tiny_artifact.parent)
    assert resolve_model(tiny_artifact.name) == tiny_artifact
    monkeypatch.setenv("HOME", str(tiny_artifact.parent))
    assert resolve_model(f"~/{tiny_artifact.name}") == tiny_artifact
    assert exports == []
    assert not cache.exists()


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_an_embedded_models_name_is_that_model_whatever_lies_in_the_working_directory(
    name, tiny_artifact, tmp_path, monkeypatch
):
    monkeypatch.setattr("crossrank.resolve.embedded_artifact", lambda name: Path("/embedded") / name)
    shutil.copytree(tiny_artifact, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert resolve_model(name) == Path("/embedded") / name
    assert resolve_model(f"./{name}") == resolve_model(Path(name)) == tmp_path / name


def test_a_checkpoint_is_exported_once_and_found_again(checkpoint, cache, exports):
    first = resolve_model(checkpoint, provider="cpu")
    assert resolve_model(str(checkpoint), provider="cpu") == first
    assert first.is_relative_to(cache)
    assert [(source, options["precisions"]) for source, options in exports] == [(str(checkpoint), ("int8",))]
    assert exports[0][1]["trust_remote_code"] is False


def test_the_same_bytes_in_another_folder_of_that_name_are_not_exported_again(checkpoint, cache, exports, tmp_path):
    first = resolve_model(checkpoint, provider="cpu")
    shutil.copytree(checkpoint, tmp_path / "elsewhere" / checkpoint.name)
    assert resolve_model(tmp_path / "elsewhere" / checkpoint.name, provider="cpu") == first
    assert len(exports) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"other weights"),
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: (folder / "tokenizer.json").write_text("[]"),
        lambda folder: (folder / "vocab.txt").write_text("word"),
        lambda folder: (folder / "modeling.py").write_text("code"),
        lambda folder: (folder / "model.safetensors").rename(folder / "other.safetensors"),
    ],
    ids=["weights", "config", "tokenizer", "a new file", "code", "a name"],
)
def test_a_checkpoint_that_changed_is_exported_again(checkpoint, cache, exports, change):
    first = resolve_model(checkpoint, provider="cpu")
    change(checkpoint)
    assert resolve_model(checkpoint, provider="cpu") != first
    assert len(exports) == 2


def test_each_precision_is_exported_for_itself_and_each_version_of_crossrank(checkpoint, cache, exports, monkeypatch):
    folders = {resolve_model(checkpoint, provider="cpu", precision=kind) for kind in ("auto", "fp32", "int8", "fp16")}
    assert len(folders) == 3
    assert [options["precisions"] for _, options in exports] == [("int8",), ("fp32",), ("fp16",)]
    monkeypatch.setattr("crossrank.__version__", "99.0")
    folders.add(resolve_model(checkpoint, provider="cpu"))
    assert len(folders) == 4


def test_an_index_and_a_name_of_the_same_digits_are_different_labels(checkpoint, cache, exports, hub):
    hub({None: COMMIT, COMMIT: COMMIT})
    for model in (checkpoint, "owner/model"):
        exports.clear()
        index, name = (resolve_model(model, provider="cpu", positive_label=label) for label in (1, "1"))
        assert index != name
        assert [options["positive_label"] for _, options in exports] == [1, "1"]
        assert resolve_model(model, provider="cpu", positive_label="1") == name
        assert len(exports) == 2


def test_a_cached_export_of_another_label_is_refused(checkpoint, cache, exports):
    entry = resolve_model(checkpoint, provider="cpu", positive_label="1")
    rewrite_manifest(entry, num_labels=2, label_names=("1", "0"), positive_label=1)
    with pytest.raises(InvalidInputError, match=r"made for label '0' of its labels \(1, 0\); delete that folder"):
        resolve_model(checkpoint, provider="cpu", positive_label="1")
    rewrite_manifest(entry, positive_label=0)
    assert resolve_model(checkpoint, provider="cpu", positive_label="1") == entry


def test_an_export_that_fails_leaves_nothing_and_is_tried_again(checkpoint, cache, exports, monkeypatch):
    def fail(*_, **__):
        raise ArtifactError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("crossrank.export.pipeline.export", fail)
        with pytest.raises(ArtifactError, match="disk full"):
            resolve_model(checkpoint, provider="cpu")
    assert (resolve_model(checkpoint, provider="cpu") / "manifest.json").is_file()


def test_a_provider_that_does_not_work_is_reported_before_the_export(checkpoint, cache, exports):
    with pytest.raises(ProviderError, match="built without CUDA"):
        resolve_model(checkpoint, provider="cuda")
    with pytest.raises(ProviderError, match="built without CUDA"):
        resolve_model(checkpoint, provider="cuda", precision="fp32")
    assert exports == []


def test_where_cuda_works_fp16_is_exported(checkpoint, cache, exports, monkeypatch):
    from crossrank.engine.runtime import providers

    chosen = providers.ProviderResolution("cuda", "auto")
    monkeypatch.setattr(providers, "choose_provider", lambda choice: chosen)
    resolve_model(checkpoint)
    assert exports[0][1]["precisions"] == ("fp16",)


def test_a_folder_that_is_neither_is_refused(tmp_path, cache, exports):
    with pytest.raises(ModelNotFoundError, match=r"neither an artifact \(no manifest\.json\) nor a checkpoint"):
        resolve_model(tmp_path)


@pytest.mark.parametrize("model", ["", None, 5, b"", ["default"]], ids=repr)
def test_an_invalid_name_is_refused(model):
    with pytest.raises(InvalidInputError, match="model is "):
        resolve_model(model)


@pytest.mark.parametrize("model", ["nothing-of-that-name", "a/b/c", "/no/such/folder", "./no/folder", "~nobody/x"])
def test_an_unknown_name_is_an_error_that_says_what_was_expected_and_asks_no_hub(model, cache, hub):
    asked = hub({None: COMMIT})
    with pytest.raises(ModelNotFoundError, match=r"crossrank models.*'default', 'default-small', an artifact folder"):
        resolve_model(model, provider="cpu")
    assert asked == []


def test_a_path_is_never_taken_for_a_hub_id(cache, hub):
    asked = hub({None: COMMIT})
    with pytest.raises(ModelNotFoundError, match="there is no folder owner/name"):
        resolve_model(Path("owner/name"))
    assert asked == []


@pytest.mark.parametrize(
    "name", ["ms-marco-MiniLM-L6-v2", "MS-MARCO-minilm-l6-V2", "cross-encoder/ms-marco-MiniLM-L-6-v2"]
)
def test_a_name_of_the_catalogue_is_exported_from_its_repository(name, cache, exports, hub):
    asked = hub({None: COMMIT})
    folder = resolve_model(name, provider="cpu")
    assert asked == [("cross-encoder/ms-marco-MiniLM-L6-v2", None)]
    assert [(source, options["revision"]) for source, options in exports] == [(asked[0][0], COMMIT)]
    assert folder.is_relative_to(cache)


def test_a_cached_export_of_the_hub_is_found_without_a_network(cache, exports, hub):
    hub({None: COMMIT, "v2": NEWER})
    first = resolve_model("owner/name", provider="cpu")
    second = resolve_model("owner/name", provider="cpu", revision="v2")
    assert first != second
    asked = hub(None)
    assert resolve_model("owner/name", provider="cpu") == first
    assert resolve_model("owner/name", provider="cpu", revision=COMMIT) == first
    assert resolve_model("owner/name", provider="cpu", revision="v2") == second
    assert resolve_model("owner/name", provider="cpu", revision=NEWER) == second
    assert (asked, len(exports)) == ([], 2)


def test_what_is_not_cached_and_cannot_be_had_is_an_error_that_says_what_to_run(cache, exports, hub):
    hub({None: COMMIT})
    resolve_model("owner/name", provider="cpu")
    hub(None)
    for name, options in (
        ("owner/other", {}),
        ("owner/name", {"precision": "fp32"}),
        ("owner/name", {"revision": "x"}),
    ):
        with pytest.raises(ModelNotFoundError, match=rf"(?s)out of reach.*run 'crossrank export {name} FOLDER'"):
            resolve_model(name, provider="cpu", **options)
    assert len(exports) == 1


@pytest.mark.parametrize("name", ["owner/name", "bge-reranker-base"])
def test_offline_that_is_what_the_real_hub_client_leads_to(name, cache):
    with pytest.raises(ModelNotFoundError, match=r"(?s)not exported on this machine yet.*run 'crossrank export "):
        resolve_model(name, provider="cpu")


def test_hub_ids_that_differ_only_in_their_separators_do_not_share_an_export(cache, exports, hub):
    hub({None: COMMIT})
    folders = {resolve_model(name, provider="cpu") for name in ("a/b--c", "a--b/c", "a/b-c", "a/b.c")}
    assert len(folders) == 4
    assert len(exports) == 4


def test_consent_to_remote_code_is_passed_on_and_never_assumed(cache, exports, hub, checkpoint):
    hub({None: COMMIT})
    resolve_model("owner/name", provider="cpu", trust_remote_code=True)
    resolve_model("owner/other", provider="cpu")
    resolve_model(checkpoint, provider="cpu", trust_remote_code=True)
    assert [options["trust_remote_code"] for _, options in exports] == [True, False, True]


@pytest.mark.parametrize("kind", ["artifact", "checkpoint", "default", "default-small"])
def test_only_a_hub_repository_has_revisions(kind, tiny_artifact, checkpoint):
    model = {"artifact": tiny_artifact, "checkpoint": checkpoint}.get(kind, kind)
    with pytest.raises(InvalidInputError, match="revision='main': only a hub repository has revisions"):
        resolve_model(model, revision="main")


def test_processes_that_need_the_same_export_at_once_make_it_once(checkpoint, cache, tiny_artifact, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    code = """
import shutil, sys, time
import crossrank.export.pipeline as pipeline
from crossrank.resolve import resolve_model
checkpoint, artifact, log = sys.argv[1:]
def export(source, out, **options):
    with open(log, "a") as stream:
        stream.write("exported\\n")
    time.sleep(1)
    shutil.copytree(artifact, out)
pipeline.export = export
print(resolve_model(checkpoint, provider="cpu"))
"""
    log = tmp_path / "log"
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: run_python(code, checkpoint, tiny_artifact, log), range(3)))
    assert log.read_text() == "exported\n"
    assert len(set(folders)) == 1
    assert Path(folders[0].strip(), "manifest.json").is_file()


def test_the_cache_is_in_the_users_folder_by_default(monkeypatch, tmp_path):
    from crossrank.export_cache import cache_folder

    monkeypatch.delenv("CROSSRANK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crossrank" / "exports"
    monkeypatch.setenv("CROSSRANK_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mine"


def test_what_only_looks_like_a_file_of_a_checkpoint_does_not_matter(checkpoint, cache, exports):
    """Folders with such names, and links to files that were left behind."""
    first = resolve_model(checkpoint, provider="cpu")
    (checkpoint / "runs.json").mkdir()
    (checkpoint / "step-10").mkdir()
    (checkpoint / "step-10" / "optimizer.bin").symlink_to(checkpoint / "nowhere")
    assert resolve_model(checkpoint, provider="cpu") == first


def test_a_file_of_a_checkpoint_that_cannot_be_read_is_named(checkpoint, cache, exports, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("crossrank.export_cache.sha256_of", deny)
    with pytest.raises(ModelNotFoundError, match=r"config\.json of .*checkpoint cannot be read: Permission denied"):
        resolve_model(checkpoint, provider="cpu")


def test_a_ready_file_that_cannot_be_read_is_named(checkpoint, cache, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    (checkpoint / "model.onnx").write_bytes(b"graph")
    monkeypatch.setattr("crossrank.export.hub.places.sha256_of", deny)
    with pytest.raises(ModelNotFoundError, match=r"config\.json of .*checkpoint cannot be read: Permission denied"):
        resolve_model(checkpoint, provider="cpu", file="model.onnx")
