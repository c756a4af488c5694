"""Listening sockets of this process, restricted to some addresses.

TensorFlow's server listens on every address of its machine, regardless of its cluster, and no option changes that. But
Linux lets the owner of a socket attach a filter that sees each packet before the connection is established (man 7 socket,
SO_ATTACH_FILTER; linux/filter.h): packets to other addresses are dropped there.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from graphsplit.errors import GraphSplitError

__all__ = ["listen_only_on", "packet_filter"]

Address = IPv4Address | IPv6Address

_ATTACH = 26  # SO_ATTACH_FILTER, which Python does not name
_NETWORK = 0x100000000 - 0x100000  # SKF_NET_OFF: offsets from here count from the IP header
_LOAD_BYTE, _LOAD_WORD, _SHIFT_RIGHT, _EQUAL, _RETURN = 0x30, 0x20, 0x74, 0x15, 0x06
_DROP, _ACCEPT = 0, 0xFFFFFFFF
_MOST = 16  # addresses, since jumps of a filter reach 255 instructions


def listen_only_on(port: int, addresses: Sequence[Address]) -> None:
    """Restrict every socket of this process that listens on a port to packets sent to some addresses.

    Args:
        port: The port.
        addresses: The addresses, of this machine.

    Raises:
        GraphSplitError: The system cannot do that, no socket listens on the port, or there are too many addresses.
    """
    if not sys.platform.startswith("linux"):
        raise GraphSplitError(
            f"TensorFlow's server listens on every address of the machine, and {sys.platform} cannot restrict that; "
            "run the worker on Linux"
        )
    code = packet_filter(addresses)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
    count = 0
    for listening in _listening(port):
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH, program)
        count += 1
    if not count:
        raise GraphSplitError(f"no socket of this process listens on port {port}, so nothing restricts who may connect")


def packet_filter(addresses: Sequence[Address]) -> bytes:
    """A classic BPF program that accepts IP packets sent to one of the addresses, and drops all others.

    Args:
        addresses: IPv4 and IPv6 addresses.

    Returns:
        ``struct sock_filter`` instructions of 8 bytes (linux/filter.h).

    Raises:
        GraphSplitError: More addresses than a filter holds.
    """
    if len(addresses) > _MOST:
        raise GraphSplitError(f"a worker answers on up to {_MOST} addresses, not {len(addresses)}; name one of them in the cluster")
    four: list[tuple[int, int, int, int]] = [(_LOAD_WORD, 0, 0, _NETWORK + 16)]
    six: list[tuple[int, int, int, int]] = []
    for address in addresses:
        if address.version == 4:
            four += [(_EQUAL, 0, 1, int(address)), (_RETURN, 0, 0, _ACCEPT)]
            continue
        for i, word in enumerate(struct.unpack("!4I", address.packed)):
            # Another word: jump to the next address, past the rest of this one.
            six += [(_LOAD_WORD, 0, 0, _NETWORK + 24 + 4 * i), (_EQUAL, 0, 2 * (3 - i) + 1, word)]
        six.append((_RETURN, 0, 0, _ACCEPT))
    drop = [(_RETURN, 0, 0, _DROP)]
    version = [(_LOAD_BYTE, 0, 0, _NETWORK), (_SHIFT_RIGHT, 0, 0, 4)]
    choose = [(_EQUAL, 0, len(four) + 1, 4)]
    program = [*version, *choose, *four, *drop, (_EQUAL, 0, len(six), 6), *six, *drop]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _listening(port: int) -> Iterator[socket.socket]:
    """The TCP sockets of this process that listen on a port, as duplicates that are closed afterwards."""
    for name in os.listdir("/proc/self/fd"):
        copy = None
        with suppress(OSError):  # a descriptor that was closed in the meantime
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                copy = socket.socket(fileno=os.dup(int(name)))
        if copy is None:
            continue
        with copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and copy.getsockname()[1] == port:
                yield copy
