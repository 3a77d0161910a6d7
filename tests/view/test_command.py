"""`batchgen view` says what is in its way, and ends as it should."""

import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from typer.testing import CliRunner

from batchgen.cli import app
from tests.view.served import served


def said(*words):
    done = CliRunner().invoke(app, ["view", *map(str, words), "--no-browser"])
    return done.exit_code, done.stderr


def test_what_is_in_the_way_is_said_at_once(usual, tmp_path):
    assert said(tmp_path / "one", tmp_path / "two")[0] == 2
    code, text = said(tmp_path / "one", tmp_path / "two")
    assert f"{tmp_path}/one: holds no batchgen run" in text
    assert f"{tmp_path}/two: holds no batchgen run" in text
    assert "is named twice" in said(usual.store.url, usual.store.url)[1]
    assert "--with nsfw" in said(usual.store.url, "--blur-above", "0.5")[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = said(usual.store.url, "--port", taken.getsockname()[1])
    assert (code, "--port 0" in text) == (2, True)
    assert "cannot be listened on" in said(usual.store.url, "--host", "192.0.2.1")[1]


def test_it_listens_on_this_machine_alone_and_ends_quietly(usual):
    with served(usual.store.url) as url:
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url) as answer:
            assert b"<title>batchgen view</title>" in answer.read()


def test_it_ends_at_once_while_an_expression_is_looked_at(usual):
    slow = "(select count(*) from range(100000000) a, range(1000000) b where a.range % 7 = b.range % 11) > 0"
    with ThreadPoolExecutor(1) as pool:
        with served(usual.store.url) as url:
            query = urlencode({"where": slow, "edition": 1, "offset": 0, "limit": 1})
            waiting = pool.submit(urllib.request.urlopen, f"{url}api/rows?{query}", timeout=60)
            time.sleep(1.5)
            assert not waiting.done()
            began = time.monotonic()
        assert time.monotonic() - began < 15
        with waiting.result() as answer:
            assert b"error" in answer.read()


def test_each_server_for_others_has_a_token_of_its_own(usual, monkeypatch):
    from batchgen.view import server

    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    urls = []
    for _ in range(2):
        server.serve([usual.store.url], urls.append, port=0, host="127.0.0.1")
    assert len({url.partition("token=")[2] for url in urls}) == 2
    assert all(len(url.partition("token=")[2]) >= 32 for url in urls)
