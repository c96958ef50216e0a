"""Shards of a data set at an address, in object storage or on a server: copied to the cache folder once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from filelock import FileLock

from classmates._files import whole_file, write_text
from classmates._progress import bar
from classmates.data.readers.cache import cache_folder
from classmates.data.readers.webdataset import NAMES
from classmates.errors import UserError

KINDS = (".tar", ".parquet")
"""The files that are copied, beside the names of the classes."""

AT_ONCE = 8
"""The number of files that are copied at the same time."""

VERSIONS = ".versions.json"
"""What is known of the files that were copied: the size of each, and its version where the storage tells one."""


def is_url(data: object) -> bool:
    """Return whether data are an address that begins with a protocol: ``s3://bucket/folder``, ``https://...``."""
    return isinstance(data, str) and re.match(r"[A-Za-z][\w+.-]*://", data) is not None


def local_copy(url: str) -> Path:
    """Return a folder with the tar and parquet files below an address, copied if they are not there as they are now.

    fsspec reads the address; its libraries for ``s3://``, ``gs://``, ... and their credentials are the user's to
    install and to set. A copy that was interrupted goes on with the files that are not there yet.

    Raises:
        UserError: the protocol is unknown or its library is not installed, the address cannot be read or has no such
            files, or there is no room for a copy.
    """
    try:
        storage, root = fsspec.core.url_to_fs(url)
        found = storage.find(root, maxdepth=2, detail=True)
    except Exception as error:  # whatever the libraries of the storages raise
        raise UserError(f"{url} cannot be read: {error or type(error).__name__}") from error
    names = {name: PurePosixPath(name.removeprefix(root).lstrip("/")) for name in found}
    names = {name: path for name, path in names.items() if path.suffix in KINDS or path.name == NAMES}
    if outside := [name for name, path in names.items() if ".." in path.parts]:
        raise UserError(f"{url} has a file {outside[0]}, whose name leads out of the folder: rename it")
    if not names:
        raise UserError(f"{url} has no tar or parquet files, there or in a folder of it: these alone can be copied")
    folder = cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:24]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            # A web server's list of files says nothing of them.
            versions = {name: _version(found[name]) or _version(storage.info(name)) for name in names}
            _copy(storage, names, versions, folder)
    except Exception as error:
        raise UserError(f"{url} cannot be copied to {folder}: {error or type(error).__name__}") from error
    return folder


def _copy(
    storage: Any, names: Mapping[str, PurePosixPath], versions: Mapping[str, dict[str, str]], folder: Path
) -> None:
    """Copy what is not in the folder in this version, and remove what is there no more."""
    file = folder / VERSIONS
    there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for path in [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]:
        if path not in {folder / name for name in names.values()}:
            path.unlink()
    same = {name for name in names if versions[name] and there.get(name) == versions[name]}
    wanted = [name for name in names if name not in same or not (folder / names[name]).is_file()]

    def copy(name: str) -> str:
        with whole_file(folder / names[name]) as temporary:
            storage.get_file(name, str(temporary))
        return name

    with ThreadPool(AT_ONCE) as pool:
        for name in bar(pool.imap_unordered(copy, wanted), "copying the shards", "shard", len(wanted)):
            there[name] = versions[name]
            write_text(file, json.dumps(there))


def _version(information: Mapping[str, Any]) -> dict[str, str]:
    """Return a file's size, and what storages say that changes with its content; empty where nothing is known."""
    known = ("size", "ETag", "etag", "md5Hash", "content_md5", "generation", "mtime", "created", "LastModified")
    return {name: str(information[name]) for name in known if information.get(name) is not None}
