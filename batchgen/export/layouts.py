"""What `--to` can say of training, and which options mean something for which layout."""

from __future__ import annotations

from batchgen.errors import Refusals, Refused
from batchgen.export import mds, webdataset
from batchgen.export.benchmark_folder import plain
from batchgen.export.folder import Folder
from batchgen.export.imagefolder import ImageFolder
from batchgen.export.kohya import Kohya
from batchgen.export.layout import Layout
from batchgen.export.options import Form, Options
from batchgen.storage.store import Store

NAMES = ("webdataset", "mds", "imagefolder", "kohya", "folder")
SHARDED = ("webdataset", "mds")
REPEATS = 1


def refuse_idle(name: str, options: Options) -> None:
    """Raises Refused for options that would do nothing there, or that cannot be."""
    refusals = Refusals()
    if options.repeats is not None and name != "kohya":
        refusals.add(Refused(f"--repeats: is for --to kohya, and does nothing with --to {name}. Leave it out."))
    if options.shard_size is not None and name not in SHARDED:
        refusals.add(Refused(f"--shard-size: {name} has files and no shards. Leave it out, or take --to webdataset."))
    for option, value in (("shard-size", options.shard_size), ("repeats", options.repeats)):
        if value is not None and value < 1:
            refusals.add(Refused(f"--{option} {value}: write 1 or more."))
    refusals.raise_any()


def layout_named(name: str, options: Options, form: Form, store: Store) -> Layout:
    if name == "webdataset":
        return webdataset.Webdataset(form.extension, options.shard_size or webdataset.PART)
    if name == "mds":
        return mds.Mds(form.extension, options.shard_size or mds.PART)
    if name == "kohya":
        repeats = options.repeats or REPEATS
        return Kohya(form.extension, f"{repeats}_{_called(store)}", repeats)
    return ImageFolder(form.extension) if name == "imagefolder" else Folder(form.extension)


def _called(store: Store) -> str:
    """The last part of the export's path, which is its own name; a bucket's stays at home."""
    _, _, path = store.url.partition("://")
    _, separator, last = (path or store.url).rpartition("/")
    return plain(last) if separator else "images"
