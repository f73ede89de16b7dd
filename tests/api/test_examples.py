"""The examples show what they say they show."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fresh_python import run_python

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_caller_of_the_async_example_gives_up():
    output = run_python((EXAMPLES / "async_service.py").read_text(encoding="utf-8"))
    assert "gave up, 2000 documents were not all scored" in output
    assert "13 requests" in output


class LanguageModel(BaseHTTPRequestHandler):
    """Answers every chat with one sentence, and keeps what it was asked."""

    asked: list = []  # noqa: RUF012  one for the only test

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        answer = json.dumps(
            {"choices": [{"message": {"content": "Because others are immune [vaccines-3.0]."}}]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_the_rag_example_asks_a_language_model_about_the_best_passages():
    pytest.importorskip("bm25s")
    server = HTTPServer(("127.0.0.1", 0), LanguageModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "OPENAI_MODEL": "m",
        "OPENAI_API_KEY": "key",
    }
    command = [sys.executable, EXAMPLES / "retrieve_rerank_answer.py"]
    try:
        done = subprocess.run(command, env=os.environ | service, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nBecause others are immune [vaccines-3.0].\n")
    assert [line.split("ms  ")[1] for line in done.stdout.splitlines() if " ms  " in line] == [
        "BM25 indexes 217 passages",
        "the cross-encoder is loaded",
        "BM25 retrieves 100",
        "the cross-encoder scores them and keeps 20",
        "the language model answers",
    ]
    ((path, key, body),) = LanguageModel.asked
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer key", "m")
    prompt = body["messages"][0]["content"]
    assert prompt.count("\n\n[") == 3
    assert "Newborn babies" in prompt
    assert prompt.endswith("Question: Why do vaccines also protect newborn babies who cannot be vaccinated?")
