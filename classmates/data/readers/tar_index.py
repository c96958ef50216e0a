"""What lies where in tar files, so that any member can be read by itself."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from classmates._files import require_regular
from classmates._names import in_unicode
from classmates.data.readers.opening import EXTENSIONS
from classmates.errors import UserError, nearest

MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""A member's name: the key of its sample, up to the first dot after the last slash, and its extension."""

LABEL = "cls"
"""The extension of labels, unless another one is asked for."""


class Sample(NamedTuple):
    """One image of a shard. name: of its member. offset, size: of its bytes. label: as written, None without one."""

    name: str
    offset: int
    size: int
    label: str | None


class Index(NamedTuple):
    """The samples of one shard, and how many members are of no use, the first of them by its name."""

    samples: list[Sample]
    unused: int
    example: str


def index_shard(path: Path, label: str | None) -> Index:
    """Return where each image of a shard lies, and its label; nothing but labels is read of the members.

    Args:
        path: a tar file, not compressed. The members of a sample follow each other and have one key: ``KEY.jpg``,
            ``KEY.cls``.
        label: the extension of the member that is the label, or a field of ``KEY.json``; ``cls`` if None.

    Raises:
        UserError: it is no tar file or is cut off; a sample has several images, or none beside its label; a key comes
            twice; an image is no plain member; or a label cannot be read.
    """
    samples: list[Sample] = []
    others: list[str] = []
    seen: set[str] = set()
    try:
        require_regular(path)
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, members in _grouped(tar, path, others):
                if key in seen:
                    raise UserError(f"{path} has the key '{key}' twice: the files of a sample must follow each other")
                seen.add(key)
                samples += _sample(file, path, key, members, label, others)
            _require_end(file, tar.offset, path)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read, it is no tar file or is cut off or damaged: {error}") from error
    return Index(samples, len(others), others[0] if others else "")


Members = dict[str, tarfile.TarInfo]
"""The members of a sample by their extensions, in small letters."""


def _grouped(tar: tarfile.TarFile, path: Path, others: list[str]) -> Iterator[tuple[str, Members]]:
    """Yield the key of every sample and its members; names without an extension, as hidden ones are, go to others."""
    key, members = "", Members()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it would keep every member
        named = MEMBER.fullmatch(member.name)
        if member.isdir():
            continue
        if named is None:
            others.append(member.name)
            continue
        if named[1] != key and members:
            yield key, members
            members = {}
        key, extension = named[1], named[2].lower()
        if extension in members:
            raise UserError(f"{path} has {member.name} twice: a key must be that of one sample")
        members[extension] = member
    if members:
        yield key, members


def _sample(
    file: IO[bytes], path: Path, key: str, members: Members, label: str | None, others: list[str]
) -> list[Sample]:
    """Return the sample that these members are; none where they are neither image nor label."""
    images = [member for extension, member in members.items() if f".{extension}" in EXTENSIONS]
    wanted = label or LABEL
    labelled = members.get(wanted) or (members.get("json") if label else None)
    if len(images) > 1:
        raise UserError(f"{path} has several images of one sample: {', '.join(image.name for image in images)}")
    if not images and wanted in members:
        raise UserError(f"{path} has {members[wanted].name}, but no image '{key}' beside it")
    used = [*images, labelled] if images else []
    others += [member.name for member in members.values() if member not in used]
    if not images:
        return []
    [image] = images
    if not image.isreg() or image.issparse():
        raise UserError(f"{image.name} in {path} is a link or a sparse file: pack the images themselves")
    text = None if labelled is None else _read_label(file, path, labelled, None if wanted in members else wanted)
    return [Sample(image.name, image.offset_data, image.size, text)]


def _read_label(file: IO[bytes], path: Path, member: tarfile.TarInfo, field: str | None) -> str | None:
    """Return what a member says, or a field of it, None if nothing; field: None where all of it is the label."""
    file.seek(member.offset_data)
    content = file.read(member.size)
    try:
        text: Any = content.decode().strip()
        if field is not None:
            fields = json.loads(text)
            if field not in fields:
                raise UserError(
                    f"label is '{field}', but {member.name} in {path} has no such field: {nearest(field, fields)}"
                )
            text = fields[field]
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise UserError(f"the label {member.name} in {path} cannot be read: {error}") from error
    if isinstance(text, bool) or not isinstance(text, int | str | None) or "\0" in str(text):
        raise UserError(
            f"the label {member.name} in {path} is {text!r}: give a whole number or a text, without zero bytes"
        )
    return None if text in (None, "") else in_unicode(str(text))


def _require_end(file: IO[bytes], end: int, path: Path) -> None:
    """Raise UserError where no block of zeros follows the last member: then others may have followed it."""
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{path} is cut off or damaged after {end} bytes: copy or pack it again")
