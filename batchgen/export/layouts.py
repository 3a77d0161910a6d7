"""What `--to` can say of training, and which options mean something for which layout."""

from __future__ import annotations

from batchgen.export import webdataset
from batchgen.export.layout import Layout
from batchgen.export.options import Form, Options
from batchgen.storage.store import Store

NAMES = ("webdataset",)


def layout_named(name: str, options: Options, form: Form, store: Store) -> Layout:
    """Raises Refused for options that would do nothing there."""
    options.refuse_unfit()
    return webdataset.Webdataset(form.extension, options.shard_size or webdataset.PART)
