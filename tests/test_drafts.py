"""A draft takes its place whole or not at all, once, and leaves nothing behind."""

import errno
import os
import uuid

import pytest

from batchgen.errors import StoreRefused
from batchgen.storage.answers import TMP
from batchgen.storage.drafts import Draft
from batchgen.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store.open(str(tmp_path / "out") if request.param == "local" else f"memory://drafts/{uuid.uuid4().hex}")


def temporary(store):
    folder = os.path.join(store.url, TMP)
    return os.listdir(folder) if os.path.isdir(folder) else []


def test_a_draft_gets_its_name_once(store):
    with Draft(store) as draft:
        draft.file.write(b"....behind")
        draft.file.seek(0)
        draft.file.write(b"fore")
        assert store.list() == []
        assert draft.create("a/b.tar")
        assert draft.is_at("a/b.tar")
    assert store.read("a/b.tar") == b"forebehind"
    with Draft(store) as draft:
        draft.file.write(b"other")
        assert not draft.create("a/b.tar")
        assert not draft.is_at("a/b.tar"), "of another length"
        draft.file.seek(0, os.SEEK_END)
        draft.file.write(b"wise!")
        assert not draft.is_at("a/b.tar"), "of the same length"
    assert store.read("a/b.tar") == b"forebehind"
    assert temporary(store) == []
    assert [entry.path for entry in store.list()] == ["a/b.tar"]


def test_what_is_given_up_leaves_nothing(store):
    with Draft(store) as draft:
        draft.file.write(b"half")
    assert store.list() == []
    assert temporary(store) == []


def test_a_full_disk_is_said(tmp_path):
    with pytest.raises(StoreRefused, match="the disk is full"), Draft(Store.open(str(tmp_path))):
        raise OSError(errno.ENOSPC, "no space")


def test_a_place_that_cannot_be_written_to_is_refused():
    with pytest.raises(StoreRefused, match="cannot be written to"), Draft(Store.open("https://example.com/x")) as draft:
        draft.create("a")
