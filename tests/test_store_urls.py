"""URLs of a Store: which are places, which are refused, and what of them is never shown."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from batchgen.errors import Infrastructure, Refused, StoreRefused
from batchgen.storage.backends import Remote
from batchgen.storage.store import Store
from batchgen.words import redact


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("/data/run/", "/data/run"),
        ("/data//x/../run", "/data/run"),
        ("file:///data/run", "/data/run"),
        ("file://localhost/data/run", "/data/run"),
        ("file://localhost", "/"),
        ("s3://bucket/run/", "s3://bucket/run"),
        ("s3a://bucket//a//b", "s3://bucket/a/b"),
        ("S3://Bucket/Run", "s3://Bucket/Run"),
        ("gcs://bucket/run", "gs://bucket/run"),
        ("memory://run", "memory://run"),
        ("https://example.org/a//b", "https://example.org/a//b"),
    ],
)
def test_urls_are_normalised(url: str, normalised: str) -> None:
    assert Store.open(url).url == normalised


@pytest.mark.parametrize("url", ["s3://bucket/run?versionId=3sL4", "s3://bucket/run?versionid=3"])
def test_one_version_of_a_file_is_no_place_for_many(url: str) -> None:
    with pytest.raises(Refused, match=r"names one version of one file\. Write s3://bucket/run\.$"):
        Store.open(url).probe()
    Store.open("s3://bucket/run").refuse_unfit()


def test_a_place_that_calls_files_by_other_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS makes a slash of a backslash, so that nothing would ever be found in data/."""
    before = Remote.list
    monkeypatch.setattr(Remote, "list", lambda self, prefix, recursive: before(self, f"other/{prefix}", recursive))
    store = Store.open(f"memory://{uuid.uuid4().hex}/run")
    with pytest.raises(Refused, match="keeps files there under other names, so that they are not found again"):
        store.probe()
    monkeypatch.undo()
    assert store.list() == []


def test_relative_and_home_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Store.open("run").url == str(tmp_path / "run")
    assert Store.open("~/run").url == str(tmp_path / "home" / "run")


@pytest.mark.parametrize("url", ["", " ", "s3://", "s3:///x", "s4://bucket/x", "zip::s3://bucket/x.zip"])
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        Store.open(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAABCDEFGHIJKLMNOP:se/cr+et@bucket/run",
        "s3://key:secret@bucket/run",
        "https://user:secret@example.org/x",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=AKIAX&X-Amz-Signature=secret",
    ],
)
def test_credentials_in_a_url_are_refused_without_being_shown(url: str) -> None:
    with pytest.raises(Refused, match="holds credentials") as refused:
        Store.open(url)
    for secret in ("secret", "se/cr+et", "AKIAX", "AKIAABCD"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize("folder", ["/", "/tmp", "/usr/", "~", "file:///"])
def test_probe_refuses_folders_that_are_not_for_datasets(folder: str) -> None:
    with pytest.raises(Refused, match="no place for a dataset"):
        Store.open(folder).probe()


def test_a_store_that_cannot_create_once_is_for_reading() -> None:
    store = Store.open("https://example.org/folder")
    with pytest.raises(Refused, match="cannot be written to"):
        store.probe()
    with pytest.raises(StoreRefused, match="cannot be written to"):
        store.create("a", b"x")
    with pytest.raises(StoreRefused, match="cannot be written to"):
        store.replace("a", b"x")


def test_a_scheme_whose_package_is_missing_says_so() -> None:
    pytest.importorskip("fsspec")
    with contextlib.suppress(ImportError):
        import gcsfs  # noqa: F401

        pytest.skip("gcsfs is installed")
    with pytest.raises(Refused, match="gcsfs"):
        Store.open("gs://bucket/run").list()


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("see s3://key:secret@bucket/x", "bucket/x", "secret"),
        ("GET /x?X-Amz-Signature=abcdef&part=1", "part=1", "abcdef"),
        ("key AKIAABCDEFGHIJKLMNOP unknown", "unknown", "ABCDEFGHIJKLMNOP"),
        ("token hf_abcdefghijklmnopqrstuvwxyz012345 bad", "bad", "abcdefghij"),
        ("Authorization: Bearer abc.def, next", "next", "abc.def"),
        ("aws_secret_access_key = abcdef", "aws_secret_access_key", "abcdef"),
    ],
)
def test_redact_takes_the_secret_and_leaves_the_rest(text: str, kept: str, gone: str) -> None:
    assert kept in redact(text)
    assert gone not in redact(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8333/a@b", "s3://bucket/x", "max_tokens=77", "mail a@b.org: hi"])
def test_redact_leaves_plain_text(text: str) -> None:
    assert redact(text) == text


def test_redact_knows_this_process_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcDEF/123+456")
    assert redact("signed with abcDEF/123+456 today") == "signed with *** today"


def test_storage_errors_survive_a_trip_between_processes() -> None:
    error = pickle.loads(pickle.dumps(StoreRefused("no")))
    assert isinstance(error, Infrastructure)
    assert (str(error), error.exit_code) == ("no", 5)


def test_importing_loads_no_client_library() -> None:
    code = "import sys, batchgen.storage; print(*{'s3fs', 'botocore', 'aiohttp', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
