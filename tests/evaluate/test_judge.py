"""A judge behind HTTP: a small server on this machine answers as an endpoint does, well and badly."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from batchgen.errors import Infrastructure, Refused
from batchgen.evaluate.scorers.judge import Judge

WHITE, BLACK = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)


class Endpoint(ThreadingHTTPServer):
    """Judges how bright a picture is. failures: codes to answer with first. broken: what it says instead of JSON."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked, self.keys, self.failures, self.broken = [], [], [], None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        text, picture = body["messages"][0]["content"]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2]))))
        said = self.server.broken or json.dumps({"score": shown.mean() / 255, "reason": text["text"]})
        answer = {"model": "bright-1.2", "choices": [{"message": {"content": said}}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *values):
        pass


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("JUDGE_KEY", "a-secret")
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def judge(endpoint, tmp_path):
    def make(**values):
        file = tmp_path / "judge.yaml"
        usual = {"endpoint": endpoint.url, "model": "Bright/One", "question": "Is {prompt} bright, {category}?"}
        file.write_text(json.dumps(usual | {"first_wait_s": 0.01, "api_key_env": "JUDGE_KEY"} | values))
        found = Judge(str(file))
        found.load(None)
        return found

    return make


def judged(judge, *pictures):
    rows = [{"prompt": "p, studio photo", "benchmark_prompt": "p", "category": "day"} for _ in pictures]
    return judge.score([judge.prepare(*pair) for pair in zip(pictures, rows, strict=True)], rows)


def test_each_picture_is_judged_by_its_own_question(judge, endpoint):
    one = judge()
    white, black = judged(one, WHITE, BLACK)
    assert (white.score, black.score) == (1.0, 0.0)
    assert white.detail == {"reason": "Is p bright, day?", "judge": {"model": "bright-1.2"}}
    assert {body["temperature"] for body in endpoint.asked} == {0.0}
    assert endpoint.keys == ["Bearer a-secret"] * 2
    assert one.about.scorer == "judge-bright-one"
    assert one.about.settings["temperature"] == 0.0
    assert "a-secret" not in one.about.to_json().decode()


def test_what_was_judged_is_not_asked_again(judge, endpoint):
    first = judged(judge(), WHITE, BLACK)
    assert judged(judge(), WHITE, BLACK) == first
    assert len(endpoint.asked) == 2
    judged(judge(temperature=0.5), WHITE)
    judged(judge(question="Another?"), WHITE)
    assert len(endpoint.asked) == 4


def test_a_busy_endpoint_is_asked_again(judge, endpoint):
    endpoint.failures = [429, 503]
    (white,) = judged(judge(at_once=1), WHITE)
    assert white.score == 1.0
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(("failures", "tries"), [([401], 1), ([500] * 9, 3)])
def test_an_endpoint_that_gives_nothing_ends_the_work(judge, endpoint, failures, tries):
    endpoint.failures = failures
    with pytest.raises(Infrastructure, match=f"no judgement in {tries} tries .HTTP {failures[0]}"):
        judged(judge(retries=2), WHITE)


def test_an_answer_without_a_number_is_the_pictures_error_and_is_asked_again(judge, endpoint):
    endpoint.broken = "It is quite bright."
    (white,) = judged(judge(), WHITE)
    assert white.score is None
    assert "no JSON with a number 'score'" in white.error
    endpoint.broken = None
    assert judged(judge(), WHITE)[0].score == 1.0


def test_all_that_is_wrong_in_the_file_is_said(tmp_path, monkeypatch):
    file = tmp_path / "judge.yaml"
    file.write_text("endpoint: ftp://x\nmodel: m\ntemprature: 1\n")
    with pytest.raises(Refused) as refused:
        Judge(str(file))
    assert len(refused.value.problems) == 3
    assert all(word in str(refused.value) for word in ("endpoint", "question", "temprature"))
    with pytest.raises(Refused, match="cannot be read"):
        Judge(str(tmp_path / "nowhere.yaml"))
    monkeypatch.delenv("NO_KEY", raising=False)
    file.write_text("endpoint: http://x\nmodel: m\nquestion: q\napi_key_env: NO_KEY")
    with pytest.raises(Refused, match="NO_KEY: is not set"):
        Judge(str(file)).load(None)
