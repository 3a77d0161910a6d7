"""Nobody but the page itself is answered, and the page can do nothing but show what the server says."""

import pytest

from batchgen.evaluate.labels import labelled
from batchgen.view.answers import Viewer
from batchgen.view.guard import cookie_of, names_of
from tests.view.conftest import ORIGIN, Client

TOKEN = "a-token-of-some-length"
COOKIE = cookie_of(TOKEN)


@pytest.fixture
def shared(usual):
    """Listening everywhere, with a token."""
    return Client(Viewer(labelled([usual.store.url])), "0.0.0.0", TOKEN)


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/api/about", "/nowhere", "/small/x/0/y"])
def test_every_answer_has_a_strict_policy(client, path):
    headers = client().http.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
        "connect-src": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "10.0.0.5:8321", "", "[", "[::1"]
)
def test_another_name_of_this_machine_is_refused(client, host):
    """DNS rebinding: a page of evil.example whose name leads to 127.0.0.1 by now is of one origin with the server."""
    one = client()
    answer = one.http.get("/api/about", headers={"Host": host, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 421
    assert "columns" not in answer.text
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert one.http.post("/api/mark", json={"number": "0", "mark": "keep"}, headers=headers).status_code == 421
    assert one.viewer.marks.counts() == {"keep": 0, "drop": 0}


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321", "localhost:9000"])
def test_its_own_names_are_answered_also_through_a_tunnel(client, host):
    assert client().http.get("/api/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:3000", "https://127.0.0.1:8321"]
)
def test_a_page_elsewhere_cannot_mark(client, origin):
    one = client()
    headers = {"Origin": origin} if origin else {}
    answer = one.http.post("/api/mark", json={"number": "0", "mark": "keep", "edition": "1"}, headers=headers)
    assert answer.status_code == 403
    assert one.viewer.marks.counts() == {"keep": 0, "drop": 0}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_elsewhere_cannot_make_it_work(client, site):
    one = client()
    for path in ("/api/rows?offset=0&limit=1&edition=1", "/small/x/0/y", "/page/page.js"):
        assert one.http.get(path, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert one.http.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200, "a link may lead here"


def test_without_the_token_nothing_is_answered(shared):
    for path in ("/", "/?token=", "/?token=wrong", f"/api/about?token={TOKEN}", "/page/page.js"):
        assert shared.http.get(path).status_code == 401, path
    assert shared.http.get("/", headers={"Cookie": f"{COOKIE}=wrong"}).status_code == 401
    answer = shared.http.post("/api/mark", json={}, headers={"Origin": ORIGIN})
    assert answer.status_code == 401


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_page_has(shared):
    answer = shared.http.get(f"/?token={TOKEN}")
    assert answer.status_code == 200
    assert answer.headers["set-cookie"] == f"{COOKIE}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert shared.http.get("/api/about").status_code == 200, "the cookie is enough"
    assert "set-cookie" not in shared.http.get("/api/about").headers


def test_a_server_for_others_is_called_by_any_address_and_no_foreign_name(shared):
    shared.http.get(f"/?token={TOKEN}")
    cookie = {"Cookie": f"{COOKIE}={TOKEN}"}
    assert shared.http.get("/api/about", headers={"Host": "10.1.2.3:8321"} | cookie).status_code == 200
    assert shared.http.get("/api/about", headers={"Host": "evil.example:8321"} | cookie).status_code == 421
    assert names_of("10.0.0.5") == (["127.0.0.1", "localhost", "::1", "10.0.0.5"], False)


@pytest.mark.parametrize(
    "path", ["/page/../answers.py", "/page/%2e%2e/answers.py", "/page/answers.py", "/page/", "/page/..%2fguard.py"]
)
def test_only_the_files_of_the_page_are_served(client, path):
    answer = client().http.get(path)
    assert answer.status_code == 404
    assert "import" not in answer.text
