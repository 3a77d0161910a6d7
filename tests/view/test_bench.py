"""jobs/bench/view.py in small: what it measures is there, and each of its numbers has its key."""

import json
import sys

import view


def test_it_measures_what_it_says(tmp_path, monkeypatch, capsys):
    asked = view.asked(2000)
    assert all(name in view.__doc__ for name in asked)
    few = {name: asked[name] for name in ["view_picture_s"]}
    monkeypatch.setattr(view, "asked", lambda rows: few)
    monkeypatch.setattr(sys, "argv", ["view.py", "--rows", "2000", "--out", str(tmp_path / "view.json")])
    view.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["rows"] == 2000
    assert min(said[name] for name in (*few, "start_s", "rss_gib")) > 0
    assert json.loads((tmp_path / "view.json").read_text()) == said
