"""Completeness of image files, decided by the means of their formats and never by what the pixels look like.

    PNG    the CRC of every chunk, the end chunk, and a pixel stream that is complete, with its own checksum, and as long as the size asks
    JPEG   markers up to the end marker, and entropy-coded data that libjpeg decodes without a warning
    WebP   RIFF sizes, and coded data of which the decoder needs every byte
    GIF    blocks up to the trailer, and coded data of the first frame of which the decoder needs every byte
    BMP    the sizes in its headers, and the end marker of run-length codes

Decoders are lenient: they fill in pixels that are missing. JPEG, WebP and GIF have no checksum, so a change that leaves as many valid codes
passes; uncompressed pixels of BMP have no redundancy at all.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

PNG, JPEG, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # first pixels and strides
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within entropy-coded data; those of restarts belong to them
_SLACK = 16  # bytes at the end of coded data that a decoder may leave unread; encoders pad by 1 … 6


def checked(data: bytes, decodes: Callable[[bytes], bool]) -> bytes:
    """Return an image file for the decoder: as it is, or a PNG with its pixel stream inflated, which saves inflating it twice.

    Args:
        data: the whole file.
        decodes: whether the decoder accepts a file, which is asked about WebP and GIF files cut short.

    Raises:
        ValueError: the reason, if the file is damaged or incomplete. Files of other formats are returned unchecked.

    Example:
        >>> checked(b"BM" + (99).to_bytes(4, "little"), lambda data: True)
        Traceback (most recent call last):
        ValueError: image file is truncated: 6 of 99 bytes
    """
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(JPEG):
        _jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        _webp(data, decodes)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        _gif(data, decodes)
    elif data.startswith(BMP):
        _bmp(data)
    return data


def _need(ok: object, reason: str) -> None:
    if not ok:
        raise ValueError(reason)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk, all of it; checks lengths and CRCs."""
    at, kind, view = len(PNG), b"", memoryview(data)
    while kind != b"IEND":
        _need(at + 12 <= len(data), "image file is truncated: its end chunk is missing")
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 12 + length
        _need(end <= len(data), f"image file is truncated within a chunk of {length} bytes")
        _need(zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end]), f"damaged: wrong checksum of chunk {kind!r}")
        yield kind, at, end
        at = end


def _png(data: bytes) -> bytes:
    chunks = list(_png_chunks(data))
    _need(chunks[0][0] == b"IHDR" and chunks[0][2] - chunks[0][1] == 25, "damaged: a PNG begins with its header chunk")
    numbers = [i for i, (kind, _, _) in enumerate(chunks) if kind == b"IDAT"]
    first = numbers[0] if numbers else 0
    _need(numbers and numbers == list(range(first, first + len(numbers))), "damaged: the pixels are not in consecutive chunks")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, chunks[0][1] + 8)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    size = sum(h * (1 + (w * bits + 7) // 8) for w, h in sides if w > 0)
    stream = zlib.decompressobj()
    pixels = stream.decompress(b"".join(data[start + 8 : end - 4] for kind, start, end in chunks if kind == b"IDAT"), size + 65536)
    _need(stream.eof and len(pixels) >= size, f"image data are truncated: {len(pixels)} of {size} bytes, or no end")
    stored = zlib.compress(pixels, 0)
    head = struct.pack(">I", len(stored)) + b"IDAT"
    crc = zlib.crc32(stored, zlib.crc32(b"IDAT")).to_bytes(4)
    rest = (data[start:end] for kind, start, end in chunks[first:] if kind != b"IDAT")
    return b"".join((data[: chunks[first][1]], head, stored, crc, *rest))


def _jpeg(data: bytes) -> None:
    """Raise ValueError unless markers lead to the end marker and libjpeg decodes all scans without a warning."""
    import simplejpeg

    at, kept, inks = len(JPEG), [JPEG], 3
    while (marker := data[at : at + 2]) != b"\xff\xd9":
        if marker == b"\xff\xff":  # fill bytes
            at += 1
            continue
        _need(marker[:1] == b"\xff" and len(data) >= at + 4, "image file is truncated: its end marker is missing")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker[1] == 0xDA:
            next_marker = _MARKER.search(data, end)
            _need(next_marker, "image file is truncated: its end marker is missing")
            end = next_marker.start() if next_marker else end
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):
            inks = data[at + 9 : at + 10]
        # Without metadata, whose harmless warnings would hide those of the pixels: only the first is reported.
        if not (0xE0 <= marker[1] <= 0xEF or marker[1] == 0xFE):
            kept.append(data[at:end])
        at = end
    # At an eighth of the size, where libjpeg decodes all codes and transforms next to nothing.
    simplejpeg.decode_jpeg(b"".join((*kept, b"\xff\xd9")), "CMYK" if inks == b"\x04" else "GRAY", min_height=1, min_width=1, min_factor=8)


_UNREAD = "image data are damaged: the decoder does not need all of them"


def _webp_chunks(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and payload of each chunk between two offsets; checks lengths."""
    while start + 8 <= end:
        kind, (size,) = data[start : start + 4], struct.unpack_from("<I", data, start + 4)
        _need(start + 8 + size <= end, f"image file is truncated within a chunk of {size} bytes")
        yield kind, data[start + 8 : start + 8 + size]
        start += 8 + size + size % 2


def _webp(data: bytes, decodes: Callable[[bytes], bool]) -> None:
    """Raise ValueError unless all sizes agree and each coded part of the first frame fails to decode when it is cut short."""
    size = struct.unpack_from("<I", data, 4)[0] + 8
    _need(size <= len(data), f"image file is truncated: {len(data)} of {size} bytes")
    chunks = list(_webp_chunks(data, 12, size))
    frame = next((payload for kind, payload in chunks if kind == b"ANMF"), None)
    if frame is not None:
        _need(len(frame) >= 16, "image file is truncated within a frame")
        wide, high = frame[6:9], frame[9:12]
        chunks = [(b"VP8X", b"\x10\0\0\0" + wide + high), *_webp_chunks(frame, 16, len(frame))]
    chunks = [(kind, payload) for kind, payload in chunks if kind in (b"VP8X", b"ALPH", b"VP8 ", b"VP8L")]
    for i, (kind, payload) in enumerate(chunks):
        if kind in (b"VP8 ", b"VP8L") or (kind == b"ALPH" and payload and payload[0] & 3 == 1):
            short = [*chunks[:i], (kind, payload[:-_SLACK]), *chunks[i + 1 :]]
            body = b"".join(k + struct.pack("<I", len(p)) + p + bytes(len(p) % 2) for k, p in short)
            _need(not decodes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body), _UNREAD)


def _gif(data: bytes, decodes: Callable[[bytes], bool]) -> None:
    """Raise ValueError unless blocks lead to the trailer and the first frame fails to decode when its codes are cut short."""

    def byte(at: int) -> int:
        _need(at < len(data), "image file is truncated: its trailer is missing")
        return data[at]

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = head = 13 + table(byte(10))
    whole = False
    while (block := byte(at)) != 0x3B:
        _need(block in (0x21, 0x2C), "damaged: unknown block")
        start, at = at, at + 2 if block == 0x21 else at + 11 + table(byte(at + 9))  # then sub-blocks, after the size of an image's codes
        codes = at
        while length := byte(at):
            at += 1 + length
        at += 1
        if block == 0x2C and not whole:
            whole = True
            parts, i = [], codes
            while data[i]:
                parts.append(data[i + 1 : i + 1 + data[i]])
                i += 1 + data[i]
            short = b"".join(parts)[:-_SLACK]
            blocks = b"".join(bytes([len(p)]) + p for p in (short[i : i + 255] for i in range(0, len(short), 255)))
            _need(not decodes(data[:head] + data[start:codes] + blocks + b"\0;"), _UNREAD)


def _bmp(data: bytes) -> None:
    """Raise ValueError if a BMP is shorter than its headers tell, or its run-length codes have no end marker."""
    size = int.from_bytes(data[2:6], "little")
    _need(size <= len(data), f"image file is truncated: {len(data)} of {size} bytes")
    if len(data) < 38 or int.from_bytes(data[14:18], "little") < 40:
        return
    start, codes, length = (int.from_bytes(data[i : i + n], "little") for i, n in ((10, 4), (30, 4), (34, 4)))
    _need(start + length <= len(data), f"image data are truncated: {len(data) - start} of {length} bytes")
    if codes not in (1, 2):
        return
    at = start
    while (pair := data[at : at + 2]) != b"\0\1":
        _need(len(pair) == 2, "image data are truncated: their end marker is missing")
        at += 2
        if pair[0] == 0 and pair[1] == 2:
            at += 2
        elif pair[0] == 0 and pair[1] > 2:
            stored = pair[1] if codes == 1 else (pair[1] + 1) // 2
            at += stored + stored % 2
