"""As much of an NBD client as figures need: one socket, simple replies. Ours, so that no library's start is in the figure.

Layout: NetworkBlockDevice/nbd doc/proto.md, "Fixed newstyle negotiation" and "Transmission phase".
"""

import socket
import struct

IHAVEOPT, OPT_REPLY = 0x49484156454F5054, 0x3E889045565A9
OPT_GO, OPT_STRUCTURED_REPLY, REP_ACK, REP_INFO = 7, 8, 1, 3
REQUEST, SIMPLE_REPLY, CHUNK = 0x25609513, 0x67446698, 0x668E33EF
CMD_READ, CMD_DISC = 0, 2


class Client:
    """A connection in its transmission phase."""

    def __init__(self, path, export=b"", structured=False, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        if self.take(16) != b"NBDMAGIC" + struct.pack(">Q", IHAVEOPT):
            raise OSError("no NBD server of the new style")
        self.take(2)
        # Fixed newstyle, no zeroes.
        self.socket.sendall(struct.pack(">I", 3))
        self.structured = structured and self.option(OPT_STRUCTURED_REPLY, b"")[0] == REP_ACK
        kind, infos = self.option(OPT_GO, struct.pack(">I", len(export)) + export + struct.pack(">H", 0))
        if kind != REP_ACK:
            raise OSError(f"GO refused: {kind:#x}")
        self.size = next(struct.unpack(">Q", one[2:10])[0] for one in infos if one[:2] == b"\0\0")

    def option(self, number, data):
        """Sends an option; the kind of its last reply, and the data of those before."""
        self.socket.sendall(struct.pack(">QII", IHAVEOPT, number, len(data)) + data)
        infos = []
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self.take(20))
            if magic != OPT_REPLY:
                raise OSError("not an option's reply")
            data = self.take(length)
            if kind != REP_INFO:
                return kind, infos
            infos.append(data)

    def take(self, length):
        """Exactly so many bytes."""
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise OSError("the server has closed the connection")
            view = view[got:]
        return bytes(buffer)

    def ask(self, cookie, offset, length, command=CMD_READ):
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, command, cookie, offset, length))

    def answer(self, lengths, offsets):
        """The next whole answer to one of the reads asked: its cookie and bytes. `lengths` and `offsets` are by cookie."""
        if not self.structured:
            magic, error, cookie = struct.unpack(">IIQ", self.take(16))
            if magic != SIMPLE_REPLY or error:
                raise OSError(f"answer {magic:#x}, error {error}")
            return cookie, self.take(lengths[cookie])
        if not hasattr(self, "parts"):
            self.parts = {}
        while True:
            magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.take(20))
            if magic != CHUNK or kind & 0x8000:
                raise OSError(f"chunk {magic:#x} of kind {kind:#x}: {self.take(length)!r}")
            whole = self.parts.setdefault(cookie, [bytearray(lengths[cookie]), 0])
            if kind == 1:
                at = struct.unpack(">Q", self.take(8))[0] - offsets[cookie]
                whole[0][at : at + length - 8] = self.take(length - 8)
                whole[1] += length - 8
            elif kind == 2:
                at, hole = struct.unpack(">QI", self.take(12))
                whole[1] += hole
            elif length:
                self.take(length)
            if flags & 1:
                del self.parts[cookie]
                if whole[1] != lengths[cookie]:
                    raise OSError(f"chunks of {whole[1]} bytes answer a read of {lengths[cookie]}")
                return cookie, bytes(whole[0])

    def read(self, offset, length):
        self.ask(1, offset, length)
        return self.answer({1: length}, {1: offset})[1]

    def close(self):
        self.ask(0, 0, 0, CMD_DISC)
        self.socket.close()
