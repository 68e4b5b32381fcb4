"""Readers of PNG, JPEG, GIF and WebP files that share nothing with the package: is a file complete and valid by its format?

They decode what the formats code, without making pixels of it. Sources: PNG (RFC 2083), JPEG (ITU T.81), GIF89a, the WebP container.
"""

from __future__ import annotations

import struct
import zlib


class Invalid(Exception):
    """A file is not one of its format, or not all of one."""


class Tolerated(Invalid):
    """A JPEG breaks a rule that libjpeg, which decodes it without a warning, does not check."""


def need(ok: object, reason: str) -> None:
    """Raise Invalid unless ok."""
    if not ok:
        raise Invalid(reason)


def png(data: bytes) -> None:
    """Raise Invalid unless every chunk has its CRC and the pixel stream inflates to the end."""
    need(data[:8] == b"\x89PNG\r\n\x1a\n", "signature")
    at, pixels, kind = 8, b"", b""
    while kind != b"IEND":
        need(at + 12 <= len(data), "cut")
        length = struct.unpack_from(">I", data, at)[0]
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        need(len(body) == length and data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(kind + body)), "CRC")
        pixels += body if kind == b"IDAT" else b""
        at += 12 + length
    stream = zlib.decompressobj()
    try:
        stream.decompress(pixels)
    except zlib.error as error:
        raise Invalid(str(error)) from error
    need(stream.eof, "pixels end early")


class _Bits:
    """Bits of entropy-coded data, with stuffed zeros removed; ends at a marker."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at, self.left, self.byte = data, at, 0, 0

    def bit(self) -> int:
        if not self.left:
            need(self.at < len(self.data), "codes end early")
            self.byte = self.data[self.at]
            if self.byte == 0xFF:
                need(self.data[self.at + 1 : self.at + 2] == b"\0", "codes end early")
                self.at += 1
            self.at, self.left = self.at + 1, 8
        self.left -= 1
        return self.byte >> self.left & 1

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit()
        return value


def jpeg(data: bytes) -> bool:
    """Raise Invalid unless a baseline JPEG has all its codes and nothing else; False for JPEGs of other kinds, which are not read."""
    need(data[:2] == b"\xff\xd8", "signature")
    at, tables, frame, restart = 2, {}, None, 0
    while True:
        need(data[at : at + 1] == b"\xff" and len(data) >= at + 4, "marker")
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : at + 2 + length]
        need(length >= 2 and len(body) == length - 2, "segment")
        at += 2 + length
        if kind == 0xC4:
            while body:
                counts, first, code = body[1:17], 17, 0
                table: dict[tuple[int, int], int] = {}
                for size, count in enumerate(counts, 1):
                    for _ in range(count):
                        need(first < len(body), "table")
                        table[size, code] = body[first]
                        first, code = first + 1, code + 1
                    code <<= 1
                tables[body[0]] = table
                body = body[first:]
        elif kind in (0xC0, 0xC1):
            frame = body
        elif 0xC2 <= kind <= 0xCF and kind != 0xC8 and kind != 0xCC:
            return False
        elif kind == 0xDD:
            restart = int.from_bytes(body[:2])
        elif kind == 0xDA:
            break
    need(frame is not None and len(frame) >= 6 + 3 * frame[5] and len(body) >= 1 + 2 * body[0], "header")
    if body[0] != frame[5]:
        return False  # several scans
    end = _scan(data, at, tables, frame, body, restart)
    if (left := data.find(b"\xff\xd9", end) - end) and 0 < left <= _AHEAD:
        raise Tolerated(f"{left} bytes of codes after the last pixel")
    need(data[end : end + 2] == b"\xff\xd9", "codes after the last pixel")
    return True


_AHEAD = 8  # bytes that libjpeg reads ahead, and of which it does not notice that they are not used


def _scan(data: bytes, at: int, tables: dict, frame: bytes, scan: bytes, restart: int) -> int:
    """Decode all codes of the only scan; return where they end."""
    high, wide = struct.unpack_from(">HH", frame, 1)
    parts = {frame[6 + 3 * i]: divmod(frame[7 + 3 * i], 16) for i in range(frame[5])}
    chosen = [(parts.get(scan[1 + 2 * i], (0, 0)), divmod(scan[2 + 2 * i], 16)) for i in range(scan[0])]
    most = [max(part[k] for part, _ in chosen) for k in (0, 1)]
    need(high and wide and all(a and b for (a, b), _ in chosen), "sizes")
    units = [-(-wide // (8 * most[0])), -(-high // (8 * most[1]))]
    if len(chosen) == 1:
        units, chosen = [-(-wide // 8), -(-high // 8)], [((1, 1), chosen[0][1])]
    bits, beyond = _Bits(data, at), False

    def code(table: dict[tuple[int, int], int]) -> int:
        value = 0
        for size in range(1, 17):
            value = value << 1 | bits.bit()
            if (size, value) in table:
                return table[size, value]
        raise Invalid("no such code")

    for unit in range(units[0] * units[1]):
        if restart and unit and unit % restart == 0:
            need(data[bits.at : bits.at + 2] == bytes((0xFF, 0xD0 + (unit // restart - 1) % 8)), "restart marker")
            bits.at, bits.left = bits.at + 2, 0
        for (a, b), (dc, ac) in chosen:
            need(dc in tables and 16 + ac in tables, "table")
            for _ in range(a * b):
                bits.bits(size := code(tables[dc]))
                need(size <= 15, "size")
                k = 1
                while k < 64:
                    run, size = divmod(code(tables[16 + ac]), 16)
                    if size == 0 and run != 15:
                        break
                    k += run + 1
                    beyond = beyond or k > 64
                    bits.bits(size)
    if beyond:
        raise Tolerated("a run beyond its block")
    return bits.at


def gif(data: bytes) -> None:
    """Raise Invalid unless the codes of the first frame are all its pixels, and blocks lead to the trailer."""
    need(data[:6] in (b"GIF87a", b"GIF89a") and len(data) > 13, "signature")
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    first = True
    try:
        while data[at] != 0x3B:
            need(data[at] in (0x21, 0x2C), "block")
            image = data[at] == 0x2C
            if image:
                wide, high, flags = *struct.unpack_from("<HH", data, at + 5), data[at + 9]
                at += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
                width, at = data[at], at + 1
            else:
                at += 2
            parts = b""
            while size := data[at]:
                need(at + 1 + size < len(data), "cut")
                parts, at = parts + data[at + 1 : at + 1 + size], at + 1 + size
            at += 1
            if image and first:
                first = False
                _lzw(parts, width, wide * high)
    except (IndexError, struct.error) as error:
        raise Invalid("cut") from error
    need(not first, "no image")


def _lzw(data: bytes, width: int, pixels: int) -> None:
    """Raise Invalid unless LZW codes give so many pixels; whether an end code follows is the writer's choice."""
    need(2 <= width <= 8, "width of codes")
    clear, size, lengths, made = 1 << width, width + 1, {}, 0
    last = next_code = 0
    value = held = 0
    for byte in data:
        value, held = value | byte << held, held + 8
        while held >= size:
            code, value, held = value & (1 << size) - 1, value >> size, held - size
            if code == clear:
                lengths, size, next_code, last = {}, width + 1, clear + 2, 0
                continue
            if code == clear + 1:
                need(made >= pixels, "end before the last pixel")
                return
            if last == 0:
                need(code < clear, "code")
                length = 1
            else:
                need(code < clear or code in lengths or code == next_code, "code")
                length = 1 if code < clear else lengths.get(code, last + 1)
                if next_code < 4096:
                    lengths[next_code] = last + 1
                    next_code += 1
                    size += next_code == 1 << size and size < 12
            last, made = length, made + length
    need(made >= pixels, "codes end early")


def webp(data: bytes) -> None:
    """Raise Invalid unless RIFF and its chunks have the lengths that they name and the partitions of a lossy frame lie within it."""
    need(data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 20, "signature")
    end = struct.unpack_from("<I", data, 4)[0] + 8
    need(end <= len(data), "cut")
    at, coded = 12, False
    while at + 8 <= end:
        kind, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        need(at + 8 + size <= end, "chunk")
        if kind == b"VP8 ":
            need(size >= 10, "frame")
            need((data[at + 8] | data[at + 9] << 8 | data[at + 10] << 16) >> 5 <= size - 10, "partition")
        coded = coded or kind in (b"VP8 ", b"VP8L", b"ANMF")
        at += 8 + size + size % 2
    need(coded, "no image")


def bmp(data: bytes) -> None:
    """Raise Invalid unless a BMP has the bytes that its header names."""
    need(data[:2] == b"BM" and len(data) >= 26 and struct.unpack_from("<I", data, 2)[0] <= len(data), "cut")
