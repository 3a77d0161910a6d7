"""A run with two cells, scores and a failure, and what the server answers of it."""

import pytest
from starlette.testclient import TestClient

from batchgen.evaluate.labels import labelled
from batchgen.evaluate.scores import About, write_part
from batchgen.look.results import Results
from batchgen.view.answers import Viewer, app
from batchgen.view.guard import Guard, names_of
from tests.evaluate.conftest import scored  # noqa: F401 - a fixture
from tests.evaluate.rendered import rendered_table, written

ORIGIN = "http://127.0.0.1:8321"


class Client:
    """Asks the server as a browser would, whose page is open at its address."""

    def __init__(self, viewer, listening="127.0.0.1", token=None):
        self.viewer, self.edition = viewer, 1
        names, addresses = names_of(listening)
        self.http = TestClient(Guard(app(viewer), names, addresses, token), base_url=ORIGIN, follow_redirects=False)

    def get(self, what, **values):
        answer = self.http.get(f"/api/{what}", params={"edition": self.edition} | values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, **values):
        return self.get("rows", **({"offset": 0, "limit": 100} | values))

    def numbers(self, **values):
        return [row["number"] for row in self.rows(**values)["rows"]]

    def post(self, path, **values):
        body = {"edition": str(self.edition)} | values
        answer = self.http.post(f"/api/{path}", json=body, headers={"Origin": ORIGIN})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="session")
def usual(tmp_path_factory):
    """A run as `scored` makes one, which no test changes."""
    folder = tmp_path_factory.mktemp("usual")
    lines = [{"prompt": f"prompt {i}", "category": f"kind {i % 2}", "seed": i} for i in range(8)]
    run = rendered_table(folder, written(folder, "prompts.jsonl", lines), sweep={"guidance_scale": [1.0, 4.5]})
    ids = Results(run.store.url).to_pandas()["image_id"]
    write_part(run.store, About(scorer="oracle", version="1"), [{"image_id": one, "score": 1.0} for one in ids])
    return run


@pytest.fixture
def client(scored, usual):  # noqa: F811
    """client(*runs, **options of scored): of these runs, or of a new one; without either of the usual one."""

    def make(*runs, blur_above=None, **options):
        found = runs or [scored(**options) if options else usual]
        return Client(Viewer(labelled([run.store.url for run in found]), blur_above))

    return make
