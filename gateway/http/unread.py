"""Clients that do not read what they asked for: seen by what the kernel knows of their connections, and cut.

The server waits for them without end, and has a place for each. A connection on which something lies that its client
has not taken, and that has taken nothing for `TAKES_NOTHING_S_MAX`, is shut down; what lies there goes with it. One
that takes a little now and then is kept, however slow it is, and so is one on which nothing lies. An event stream that
the server waits for is cut sooner, see `live.py`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
import termios
from typing import Final, NamedTuple

from bus import metrics

TAKES_NOTHING_S_MAX = 30.0
LOOK_S = 5.0
AT_A_TIME: Final = 100
"""Descriptors that are looked at before others have their turn."""
TCP_INFO_BYTES_MAX: Final = 256
ACKED: Final = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux' `struct tcp_info`, which it has since 4.1."""
AT_ONCE: Final = struct.pack("ii", 1, 0)
"""A `struct linger`: what was not taken is dropped when the connection is closed."""
OF_NO_CONCERN: Final = frozenset(
    (errno.EBADF, errno.EINVAL, errno.ENOPROTOOPT, errno.ENOTCONN, errno.ENOTSOCK, errno.ENOTTY, errno.EOPNOTSUPP)
)
"""What is said of a descriptor that is gone by now, listens, or is something else."""

log = logging.getLogger(__name__)


class Stands(NamedTuple):
    """How many bytes a client had taken, and since when it is so."""

    acked: int
    since_s: float


class Unread:
    """The connections of this process that came in at one port."""

    def __init__(self, port: int, patience_s: float) -> None:
        self._port = port
        self._patience_s = patience_s
        self._stand: dict[int, Stands] = {}
        """By the inode of the socket: a descriptor's number is soon another's."""

    async def look(self, now_s: float) -> None:
        """Cut those whose time is over."""
        found: dict[int, Stands] = {}
        with os.scandir("/proc/self/fd") as entries:
            descriptors = [int(entry.name) for entry in entries]
        for number, fd in enumerate(descriptors, 1):
            try:
                if _not_taken(fd):
                    self._judge(fd, now_s, found)
            except OSError as error:
                if error.errno not in OF_NO_CONCERN:
                    log.warning("descriptor %d cannot be looked at: %s", fd, error)
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
        self._stand = found

    def _judge(self, fd: int, now_s: float, found: dict[int, Stands]) -> None:
        with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as held:  # So its number cannot become another's.
            if not _came_in_at(held, self._port):
                return
            (acked,) = ACKED.unpack_from(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES_MAX))
            inode = os.fstat(held.fileno()).st_ino
            before = self._stand.get(inode)
            if before is None or before.acked != acked:
                found[inode] = Stands(acked, now_s)
            elif now_s - before.since_s < self._patience_s:
                found[inode] = before
            else:
                left = _not_taken(held.fileno())
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                held.shutdown(socket.SHUT_RDWR)
                metrics.unread_cut.inc()
                log.info("a connection is cut: its client took nothing for %g s of %d bytes", self._patience_s, left)


async def cut_unread(port: int) -> None:
    """Look every `LOOK_S` until cancelled; where the kernel does not tell enough, say so and do nothing."""
    if not _told():
        log.warning("clients that do not read their answers are not cut: that takes Linux 4.1 or later")
        return
    unread = Unread(port, TAKES_NOTHING_S_MAX)
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await unread.look(asyncio.get_running_loop().time())
        except Exception:  # Whatever it is, it is told, and may have passed by the next look.
            log.exception("connections cannot be looked at")


def _told() -> bool:
    if sys.platform != "linux":
        return False
    try:
        with socket.socket() as unconnected:
            info = unconnected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES_MAX)
    except OSError:
        return False
    return len(info) >= ACKED.size


def _not_taken(fd: int) -> int:
    """Bytes that were written and not acknowledged by the other end, sent or not."""
    return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _came_in_at(connection: socket.socket, port: int) -> bool:
    name: object = connection.getsockname()  # A text where it is no connection of TCP.
    return isinstance(name, tuple) and name[1] == port
