"""Filters of TCP sockets in classic BPF (linux/filter.h): which segments the kernel drops before they cost anything.

For a filter of a TCP socket, a segment begins with the TCP header, and the IP header is at `_NETWORK_HEADER`.
"""

import ctypes
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv6Network, ip_network
from typing import NamedTuple

# asm-generic/socket.h, which Python has no names for.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27

_NETWORK_HEADER = 0xFFF0_0000  # SKF_NET_OFF, -0x100000
_IPV4_SOURCE, _IPV6_SOURCE = _NETWORK_HEADER + 12, _NETWORK_HEADER + 8
_TCP_FLAGS, _SYN, _ACK = 13, 0x02, 0x10

MAX_NETWORKS = 128
"""Accepted sockets inherit a listener's filter, and each is charged for it. Compiled, a network takes up to 64 bytes,
and older kernels allow 20 KiB for all options of a socket (net.core.optmem_max)."""


class _Instruction(NamedTuple):
    """`A` and `X` are the registers, `M` are words of memory. A jump is by a number of instructions to skip."""

    code: int
    if_true: int = 0
    if_false: int = 0
    operand: int = 0


_X_TO_A, _LENGTH_TO_A = _Instruction(0x07), _Instruction(0x80)
_DROP, _ACCEPT = _Instruction(0x06), _Instruction(0x06, operand=0xFFFF_FFFF)


def _byte(offset: int) -> _Instruction:  # A = a byte of the segment
    return _Instruction(0x30, operand=offset)


def _word(offset: int) -> _Instruction:  # A = four bytes of the segment
    return _Instruction(0x20, operand=offset)


def _store(slot: int) -> _Instruction:  # M[slot] = A
    return _Instruction(0x02, operand=slot)


def _load(slot: int) -> _Instruction:  # A = M[slot]
    return _Instruction(0x60, operand=slot)


def _and(mask: int) -> _Instruction:
    return _Instruction(0x54, operand=mask)


def _skip(instructions: int) -> _Instruction:
    return _Instruction(0x05, operand=instructions)


def _if_equal(operand: int, *, otherwise_skip: int) -> _Instruction:
    return _Instruction(0x15, 0, otherwise_skip, operand)


WITH_DATA = (
    _byte(12),  # its upper half is the header's length in words
    _and(0xF0),
    _Instruction(0x74, operand=2),  # A = the header's length in bytes
    _X_TO_A,
    _LENGTH_TO_A,
    _Instruction(0x1D, 0, 1),  # unless A == X, skip
    _ACCEPT,
    _DROP,
)
"""Drops every segment with data. The sender repeats it, ever more slowly."""

Filter = tuple[_Instruction, ...]


def connecting_from(networks: Collection[str]) -> Filter:
    """Return a filter for listening sockets: drops the segments (SYN) that open connections from some networks.

    The client repeats it after a second. `networks` are IPv4 addresses and IPv6 networks of 64 bits, as
    `client_address.client_network` returns them, at most `MAX_NETWORKS`.
    """
    ipv4: list[_Instruction] = []
    ipv6: list[_Instruction] = []
    for network in map(ip_network, networks):
        address = int(network.network_address)
        if isinstance(network, IPv6Network):
            upper, lower = address >> 96, address >> 64 & 0xFFFF_FFFF
            ipv6 += [_load(0), _if_equal(upper, otherwise_skip=3), _load(1), _if_equal(lower, otherwise_skip=1), _DROP]
        else:
            ipv4 += [_if_equal(address, otherwise_skip=1), _DROP]
    ipv4 = [_word(_IPV4_SOURCE), *ipv4, _ACCEPT]
    ipv6 = [_word(_IPV6_SOURCE), _store(0), _word(_IPV6_SOURCE + 4), _store(1), *ipv6, _ACCEPT]
    return (
        _byte(_TCP_FLAGS),
        _and(_SYN | _ACK),
        _if_equal(_SYN, otherwise_skip=1),
        _skip(1),
        _ACCEPT,
        _byte(_NETWORK_HEADER),  # its upper half is the version of IP
        _and(0xF0),
        _if_equal(0x60, otherwise_skip=1),
        _skip(len(ipv4)),
        *ipv4,
        *ipv6,
    )


def attach(connection: socket.socket, instructions: Filter) -> None:
    """Replace the filter of a socket. Raises OSError."""
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(program, len(program))
    argument = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def detach(connection: socket.socket) -> None:
    """Remove the filter of a socket. Raises OSError, also if it has none."""
    connection.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
