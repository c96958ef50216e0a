"""Files that many tests of the data need."""

from __future__ import annotations

import struct
import zlib

import pytest


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """A whole PNG file, half a megabyte small, of 30,000 x 30,000 black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    side = 30_000
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)  # one bit a pixel, grey
    rows = zlib.compress(bytes(side * (1 + side // 8)), level=1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
