"""The files and addresses that a pattern names, and those of the AnnData that a Zarr store of several holds."""

from __future__ import annotations

import glob
import os
import re
from fnmatch import fnmatchcase

from annpipes.errors import FormatError, SourceError
from annpipes.stores.bytes.remote import Remote
from annpipes.stores.bytes.remote_file import RemoteFile
from annpipes.stores.bytes.requesting import Requests
from annpipes.stores.containers.zarr import ZarrGroup
from annpipes.stores.containers.zarr_places import Places, is_zarr
from annpipes.stores.containers.zarr_remote import RemotePlaces, found_at

__all__ = ["addresses_of", "is_pattern", "paths_of", "several_at"]

_SIGNS = re.compile(r"[*?\[]")
_WEB = re.compile(r"[*\[]")  # the other begins a query


def is_pattern(path: str) -> bool:
    """Whether a path names several: a glob, and no file of that very name; or a Zarr store of several AnnData."""
    here = os.path.expanduser(path)
    if not os.path.exists(here):
        return any(sign in path for sign in "*?[")
    return bool(_members(here))


def several_at(remote: Remote) -> list[Remote] | Places | RemoteFile:
    """The addresses that a pattern names, and those of the AnnData in a Zarr store; or else what is at an address."""
    if _is_pattern_of_addresses(remote):
        return _matching(remote)
    found = found_at(remote)
    return (_members_at(found) if isinstance(found, RemotePlaces) else []) or found


def addresses_of(remote: Remote) -> list[Remote]:
    """The addresses that an address stands for: several as for `several_at`, or itself."""
    found = several_at(remote)
    return found if isinstance(found, list) else [remote]


def _is_pattern_of_addresses(remote: Remote) -> bool:
    """Whether an address is a pattern."""
    return (_WEB if remote.web else _SIGNS).search(remote.url) is not None


def _matching(remote: Remote) -> list[Remote]:
    """The addresses that a pattern names, sorted; each part between slashes matches one such part.

    Raises
    ------
    FormatError
        It is on a web server, which lists nothing.
    SourceError
        There are none.
    """
    if remote.web:
        raise FormatError(f"{remote.name!r} is a pattern, but a web server cannot list its files: give a list")
    sign = _SIGNS.search(remote.url)
    assert sign is not None
    top = remote.url[: remote.url.rindex("/", 0, sign.start())]
    wanted = remote.url[len(top) + 1 :].rstrip("/").split("/")
    requests, found = Requests(remote.at(top)), [""]
    for part in wanted:
        inside = ((folder, name) for folder in found for name in requests.names(folder))
        found = [f"{folder}/{name}".lstrip("/") for folder, name in inside if fnmatchcase(name, part)]
    if not found:
        versions = "; a version of an object cannot be named this way" if "versionid=" in remote.url.lower() else ""
        raise SourceError(f"nothing matches {remote.name!r}{versions}")
    return [remote.at(f"{top}/{key}") for key in sorted(found, key=_by_parts)]


def paths_of(pattern: str) -> list[str]:
    """The files that a glob names, sorted by name; the AnnData in a Zarr store, ``dataset_10`` after ``dataset_9``."""
    here = os.path.expanduser(pattern)
    found = _members(here) if os.path.exists(here) else sorted(glob.glob(here, recursive=True))
    if not found:
        raise SourceError(f"no file matches {pattern!r}")
    return found


def _members(path: str) -> list[str]:
    """The AnnData that a folder holds as groups of one Zarr store, as annbatch writes its collections; else none."""
    if not os.path.isdir(path) or not is_zarr(path) or _is_anndata(path):
        return []
    names = sorted(os.listdir(path), key=_in_counting_order)
    return [whole for name in names if _is_anndata(whole := os.path.join(path, name))]


def _members_at(places: RemotePlaces) -> list[Remote]:
    """As `_members`, of a store at an address."""
    container, remote = ZarrGroup(places), places.requests.remote
    with container.reading(""):
        group = container.group
        if {"obs", "var"} <= set(group.keys()):
            return []
        inside = [name for name, one in group.groups() if {"obs", "var"} <= set(one.keys())]
    return [remote.at(f"{remote.url}/{name}") for name in sorted(inside, key=_in_counting_order)]


def _is_anndata(path: str) -> bool:
    return all(is_zarr(os.path.join(path, table)) for table in ("obs", "var"))


def _by_parts(key: str) -> list[str]:
    return key.split("/")


def _in_counting_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
