"""The files that keep one array: its decoded bytes with holes, and a table of what is there.

::

    FOLDER/CACHEDIR.TAG
    FOLDER/<source and array>/<what the array is>/about.json    readable
                                                  data          storage chunk i at i × its decoded size
                                                  table         8 bytes for each storage chunk; 0: not there
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from dataclasses import asdict, dataclass
from functools import lru_cache

from annpipes.stores.bytes.local import FileBytes
from annpipes.stores.caching.loops import ENTRY_BYTES

__all__ = ["About", "Files", "files_at", "prepare", "remove"]

_FORMAT = 1
_KEPT_OPEN = 64  # arrays, in each process
_NEW, _OLD = ".new-", ".old-"


@dataclass(frozen=True)
class About:
    """The identity of an array; a different one has a different cache.

    Parameters
    ----------
    source, array
        The absolute path or URL of its file or store, and its path there.
    stamp
        What changes when its bytes do.
    dtype, chunk_shape, codecs
        How it is stored.
    storage_chunks, chunk_bytes
        How many storage chunks it has, and the decoded size of each.
    """

    source: str
    array: str
    stamp: str
    dtype: str
    chunk_shape: tuple[int, ...]
    codecs: tuple[str, ...]
    storage_chunks: int
    chunk_bytes: int

    @property
    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, folder: str) -> About | None:
        """What a folder says that it keeps; None if it says nothing of use."""
        try:
            with open(os.path.join(folder, "about.json"), encoding="utf-8") as file:
                values = json.load(file)
            shape, codecs = tuple(values.pop("chunk_shape")), tuple(values.pop("codecs"))
            return cls(chunk_shape=shape, codecs=codecs, **values) if values.pop("format") == _FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def place(self) -> str:
        """The folder of this source and array, whatever its stamp."""
        return _short(f"{self.source}\0{self.array}")

    def intact(self, folder: str) -> bool:
        """Whether the files in a folder are for this, and whole."""
        try:
            sizes = [os.path.getsize(os.path.join(folder, name)) for name in ("data", "table")]
        except OSError:
            return False
        expected = [self.storage_chunks * self.chunk_bytes, self.storage_chunks * ENTRY_BYTES]
        return sizes == expected and About.read(folder) == self


def prepare(path: str, about: About) -> str:
    """The folder of an array in the cache at ``path``, made if it is not there.

    What the cache has of the same array as it was before is removed.
    """
    place = os.path.join(path, about.place)
    name = _short(about.text)
    folder = os.path.join(place, name)
    if about.intact(folder):
        return folder
    os.makedirs(place, exist_ok=True)
    for other in os.listdir(place):
        made_meanwhile = other.startswith(_NEW) or (other == name and about.intact(folder))  # by somebody else
        if not made_meanwhile:
            remove(os.path.join(place, other))
    made = tempfile.mkdtemp(prefix=_NEW, dir=place)
    for file_name, size in (("data", about.chunk_bytes), ("table", ENTRY_BYTES)):
        with open(os.path.join(made, file_name), "wb") as file:
            file.truncate(about.storage_chunks * size)
    with open(os.path.join(made, "about.json"), "w", encoding="utf-8") as text:
        text.write(about.text)
    try:
        os.rename(made, folder)
    except OSError:  # another process was first
        shutil.rmtree(made, ignore_errors=True)
        if not about.intact(folder):
            raise
    return folder


def remove(folder: str) -> None:
    """Have a folder gone at once; those who have its files open keep them until they close them."""
    head, tail = os.path.split(folder)
    gone = os.path.join(head, f"{_OLD}{tail.removeprefix(_OLD)}")
    try:
        os.rename(folder, gone)
    except OSError:  # gone already, or half
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


class Files:
    """The files of one array, open in this process until their last user lets go of them."""

    def __init__(self, folder: str) -> None:
        data, table = (os.path.join(folder, name) for name in ("data", "table"))
        self.data: FileBytes = FileBytes(data)
        self.table: FileBytes = FileBytes(table)
        self.data_writer: int = os.open(data, os.O_WRONLY)
        self.table_writer: int = os.open(table, os.O_WRONLY)
        for descriptor in (self.data_writer, self.table_writer):
            weakref.finalize(self, os.close, descriptor).atexit = False

    @property
    def data_bytes(self) -> int:
        """How long the data are by now."""
        return os.fstat(self.data.descriptor).st_size


@lru_cache(_KEPT_OPEN)
def files_at(process: int, folder: str, inode: int) -> Files:
    """The files in a folder, of this process, and not those of another folder that had the name before.

    Raises
    ------
    OSError
        They are gone.
    """
    return Files(folder)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
