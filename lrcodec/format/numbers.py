"""The numbers of a file as bytes, and a reader of them. SPEC.md, "Varint" and "CRC-32", are the normative text."""

import struct
import zlib

from ..errors import FormatError

CRC_BYTES = 4

BytesLike = bytes | bytearray | memoryview
"""What files are read from; in fact any object with the buffer protocol. TypeError for anything else."""


def varint(value: int) -> bytes:
    """LEB128 in its shortest form."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


class Reader:
    """Reads forward through `data`; everything past the end is a FormatError, which names `what` is read.

    sealed: how many bytes the checksums so far cover. cut: whether the end has cut short what was read last.
    """

    def __init__(self, data: BytesLike):
        self.data, self.at = data if isinstance(data, bytes) else bytes(memoryview(data)), 0
        self.sealed, self.cut = 0, False

    def take(self, count: int, what: str) -> bytes:
        """The next bytes."""
        self.cut = count > len(self.data) - self.at
        if self.cut:
            raise FormatError(f"file ends inside {what}")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, what: str) -> int:
        """The next number. Raises FormatError if it is too large or not in its shortest form, too."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    raise FormatError(f"{what} is not in its shortest form")
                return value
        raise FormatError(f"{what} is too large")

    def crc(self, what: str) -> None:
        """Raises FormatError unless a CRC-32 of the bytes since the one before, with that one, comes next."""
        expected = zlib.crc32(self.data[self.sealed : self.at])
        self.sealed = self.at
        if struct.unpack("<I", self.take(CRC_BYTES, what))[0] != expected:
            raise FormatError(f"{what} is damaged (CRC-32 does not match)")
