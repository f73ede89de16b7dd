"""Writing an artifact: whole or not at all, whatever goes wrong and whenever."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossrank.errors import ArtifactError
from crossrank.models.artifact import Artifact, is_artifact, record_files
from crossrank.models.artifact_writer import ArtifactWriter, _host
from crossrank.models.manifest import Architecture, Fidelity, Graph, Manifest, Source


def build(folder, content="new"):
    """Place the files of a small artifact and describe them."""
    (folder / "tokenizer.json").write_text("{}")
    (folder / "fp32.onnx").write_text(content)
    return Manifest(
        name=content,
        crossrank_version="0",
        library_versions={},
        source=Source(kind="local", id="x", weights_sha256={}),
        architecture=Architecture(model_type="bert"),
        max_length=64,
        pad_token_id=0,
        uses_segment_ids=True,
        activation="identity",
        graphs=(
            Graph(
                file="fp32.onnx",
                precision="fp32",
                opset=17,
                providers=("cpu",),
                inputs=("input_ids",),
                fidelity=Fidelity(reference="none", queries=0, pairs=0, max_abs_logit_difference=0.0),
                reference_logits=(),
            ),
        ),
        reference_pairs=(),
        files=record_files(folder, ["tokenizer.json", "fp32.onnx"]),
    )


def write(target, content="new", **options):
    with ArtifactWriter(target, **options) as writer:
        return writer.commit(build(writer.folder, content))


def name_of(folder):
    opened = Artifact.open(folder)
    opened.verify()
    return opened.manifest.name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_commit_makes_the_whole_artifact_visible_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "not" / "there" / "yet"
    assert write(target) == target
    assert name_of(target) == "new"
    assert names(target.parent) == ["yet"]
    assert names(target) == ["fp32.onnx", "manifest.json", "tokenizer.json"]


def test_nothing_is_visible_under_the_targets_name_before_the_commit(tmp_path):
    with ArtifactWriter(tmp_path / "out") as writer:
        manifest = build(writer.folder)
        assert not (tmp_path / "out").exists()
        assert writer.folder.parent == tmp_path
        writer.commit(manifest)
    assert names(tmp_path) == ["out"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_relative_target_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with ArtifactWriter("out") as writer:
        monkeypatch.chdir(tmp_path / "elsewhere")
        writer.commit(build(writer.folder))
    assert name_of(tmp_path / "out") == "new"


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("force", [False, True])
def test_whatever_ends_the_writing_leaves_no_trace_and_keeps_the_old_artifact(tmp_path, error, force):
    if force:
        write(tmp_path / "out", "old")
    writer = ArtifactWriter(tmp_path / "out", force=force)

    def write_and_fail():
        with writer:
            build(writer.folder)
            raise error

    with pytest.raises(type(error)):
        write_and_fail()
    assert names(tmp_path) == (["out"] if force else [])
    if force:
        assert name_of(tmp_path / "out") == "old"


def test_leaving_without_a_commit_writes_nothing(tmp_path):
    with ArtifactWriter(tmp_path / "out") as writer:
        build(writer.folder)
    assert names(tmp_path) == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_while_flushing_leaves_no_trace_and_keeps_the_old_artifact(tmp_path, monkeypatch, existing):
    if existing:
        write(tmp_path / "out", "old")

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(ArtifactError, match="No space left on device"):
            write(tmp_path / "out", force=existing)
    assert names(tmp_path) == (["out"] if existing else [])
    if existing:
        assert name_of(tmp_path / "out") == "old"


def test_a_full_disk_while_writing_the_manifest_leaves_no_trace(tmp_path, monkeypatch):
    original = Path.write_text

    def write_text(self, *args, **options):
        if self.name == "manifest.json":
            original(self, "{", encoding="utf-8")
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(ArtifactError, match="No space left on device"):
        write(tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("failing", ["before", "after"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_failing_rename_never_loses_the_old_artifact(tmp_path, monkeypatch, step, failing, error):
    # Step 1 moves the old artifact aside, step 2 renames the new one to the target. Either may be interrupted.
    write(tmp_path / "out", "old")
    original = Path.rename
    calls = []

    def rename(self, target):
        calls.append(self)
        if len(calls) == step and failing == "before":
            raise error
        result = original(self, target)
        if len(calls) == step:
            raise error
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises((ArtifactError, KeyboardInterrupt)):
            write(tmp_path / "out", "new", force=True)
    assert name_of(tmp_path / "out") == ("new" if (step, failing) == (2, "after") else "old")
    assert names(tmp_path) == ["out"]


def test_a_process_killed_while_writing_leaves_the_old_artifact_and_the_next_writer_sweeps(tmp_path):
    write(tmp_path / "out", "old")
    code = (
        "import os, signal, sys\n"
        "from crossrank.models.artifact_writer import ArtifactWriter\n"
        "with ArtifactWriter(sys.argv[1], force=True) as writer:\n"
        "    (writer.folder / 'fp32.onnx').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "out"], check=False).returncode == -9
    assert len(names(tmp_path)) == 2
    assert name_of(tmp_path / "out") == "old"
    write(tmp_path / "out", force=True)
    assert names(tmp_path) == ["out"]
    assert name_of(tmp_path / "out") == "new"


def test_only_what_dead_writers_of_the_same_target_left_is_swept(tmp_path):
    host, dead = _host(), dead_pid()
    swept = [f".out.crossrank-new.{host}.{dead}.0a", f".out.crossrank-old.{host}.{dead}.0b"]
    untouched = [
        f".out.crossrank-new.{host}.{os.getppid()}.0c",
        f".out.crossrank-new.{host}.{os.getpid()}.0d",
        f".out.crossrank-new.{'ab' * 8}.{dead}.0e",
        f".other.crossrank-new.{host}.{dead}.0f",
        f".out2.crossrank-new.{host}.{dead}.0f",
        "out.crossrank-new",
    ]
    for name in swept + untouched:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    write(tmp_path / "out")
    assert names(tmp_path) == sorted([*untouched, "out"])


def test_what_another_machine_left_a_day_ago_is_swept(tmp_path):
    stale = tmp_path / f".out.crossrank-new.{'ab' * 8}.1.0a"
    stale.mkdir()
    os.utime(stale, (1e9, 1e9))
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_an_artifact_that_a_dead_writer_had_moved_aside_comes_back(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.crossrank-old.{_host()}.{dead_pid()}.0a")
    with pytest.raises(RuntimeError), ArtifactWriter(tmp_path / "out", force=True):
        raise RuntimeError
    assert names(tmp_path) == ["out"]
    assert name_of(tmp_path / "out") == "old"


def test_an_artifact_that_a_dead_writer_was_deleting_does_not_come_back(tmp_path):
    write(tmp_path / "out", "old")
    aside = tmp_path / f".out.crossrank-old.{_host()}.{dead_pid()}.0a"
    (tmp_path / "out").rename(aside)
    (aside / "fp32.onnx").unlink()
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert name_of(tmp_path / "out") == "new"


def test_an_artifact_that_came_back_is_not_replaced_without_force_and_that_is_said_at_once(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.crossrank-old.{_host()}.{dead_pid()}.0a")
    writer = ArtifactWriter(tmp_path / "out")
    with pytest.raises(ArtifactError, match="exists already"):
        writer.__enter__()
    assert names(tmp_path) == ["out"]
    assert name_of(tmp_path / "out") == "old"


def test_an_existing_artifact_is_kept_unless_forced(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(ArtifactError, match=r"exists already.*--force"):
        ArtifactWriter(tmp_path / "out")
    assert name_of(tmp_path / "out") == "old"
    write(tmp_path / "out", force=True)
    assert name_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def test_a_target_that_appears_while_writing_is_kept(tmp_path):
    with ArtifactWriter(tmp_path / "out") as late:
        manifest = build(late.folder, "late")
        write(tmp_path / "out", "early")
        with pytest.raises(ArtifactError, match="exists already"):
            late.commit(manifest)
    assert name_of(tmp_path / "out") == "early"
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_may_become_an_artifact(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert name_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_artifact_is_never_replaced(tmp_path, force):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for target in ("thesis", "file", "dangling"):
        with pytest.raises(ArtifactError, match="is no artifact"):
            ArtifactWriter(tmp_path / target, force=force)
    assert (folder / "chapter1.txt").read_text() == "years of work"


def test_replacing_a_link_to_an_artifact_leaves_that_artifact_alone(tmp_path):
    write(tmp_path / "elsewhere", "old")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "out", force=True)
    assert name_of(tmp_path / "out") == "new"
    assert name_of(tmp_path / "elsewhere") == "old"
    assert names(tmp_path) == ["elsewhere", "out"]


def test_files_and_manifest_must_agree(tmp_path):
    with ArtifactWriter(tmp_path / "out") as writer:
        manifest = build(writer.folder)
        (writer.folder / "extra.txt").write_text("x")
        with pytest.raises(ArtifactError, match=r"extra\.txt"):
            writer.commit(manifest)
        (writer.folder / "extra.txt").unlink()
        (writer.folder / "fp32.onnx").unlink()
        with pytest.raises(ArtifactError, match=r"fp32\.onnx"):
            writer.commit(manifest)
    assert names(tmp_path) == []


def test_a_writer_has_a_folder_only_inside_its_block(tmp_path):
    writer = ArtifactWriter(tmp_path / "out")
    with pytest.raises(ArtifactError, match="outside its 'with' block"):
        _ = writer.folder
    with writer:
        manifest = build(writer.folder)
        writer.commit(manifest)
        with pytest.raises(ArtifactError, match="outside its 'with' block"):
            writer.commit(manifest)
    assert is_artifact(tmp_path / "out")


def test_a_folder_that_cannot_be_written_to_is_an_error_that_names_the_target(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"cannot write beside .*file/out"), ArtifactWriter(tmp_path / "file/out"):
        pass


@pytest.mark.parametrize("force", [False, True])
def test_a_mount_point_is_refused_at_once(force, tmp_path, monkeypatch):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mounted)
    with pytest.raises(ArtifactError, match=r"mount point.*a folder inside it, such as .*mounted"):
        ArtifactWriter(mounted, force=force)
    with ArtifactWriter(mounted / "artifact") as writer:
        writer.commit(build(writer.folder))
    assert is_artifact(mounted / "artifact")
