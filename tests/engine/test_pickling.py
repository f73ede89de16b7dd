"""A reranker pickles as its configuration and scores the same where it is read."""

import copy
import pickle
import subprocess
import sys

import pytest

from crossrank.errors import ArtifactError

OPTIONS = {"precision": "int8", "threads": 1, "max_length": 32, "activation": "sigmoid", "max_batch_tokens": 77}


def test_a_round_trip_keeps_every_option_and_every_score(reranker):
    engine = reranker(**OPTIONS)
    again = pickle.loads(pickle.dumps(engine))
    assert again.info() == engine.info()
    assert (again.info().max_length, again.info().max_batch_tokens, again.info().activation) == (32, 77, "sigmoid")
    assert again.score("who", ["a", "b"]).tobytes() == engine.score("who", ["a", "b"]).tobytes()
    again.close()
    assert len(engine.score("who", ["a"])) == 1


def test_a_pickle_holds_no_weights(reranker, tiny_artifact):
    assert len(pickle.dumps(reranker())) < 2000 + len(str(tiny_artifact))


def test_a_closed_reranker_pickles_to_an_open_one(reranker):
    engine = reranker()
    engine.close()
    assert len(pickle.loads(pickle.dumps(engine)).score("who", ["a"])) == 1


def test_a_deep_copy_is_a_reranker_of_its_own(reranker):
    engine = reranker()
    twin = copy.deepcopy(engine)
    engine.close()
    assert len(twin.score("who", ["a"])) == 1


def test_a_relative_folder_is_found_from_another_working_directory(reranker, tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_artifact.parent)
    engine = reranker(tiny_artifact.name, precision="int8")
    data = tmp_path / "pickle"
    data.write_bytes(pickle.dumps(engine))
    code = (
        "import pickle, sys\n"
        "engine = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "print(engine.score('who', ['the river', '']).tobytes().hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, data], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == engine.score("who", ["the river", ""]).tobytes().hex()


def test_a_pickle_whose_artifact_is_gone_says_so(reranker, tiny_artifact, tmp_path):
    import shutil

    shutil.copytree(tiny_artifact, tmp_path / "moved")
    data = pickle.dumps(reranker(tmp_path / "moved"))
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(ArtifactError, match=r"moved is no artifact"):
        pickle.loads(data)
