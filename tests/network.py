"""A network of a test's own: only loopback, and a count of what tried to leave it."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


@contextlib.contextmanager
def isolated():
    """A network namespace for this process and all that it starts; what it yields counts attempts.

    The kernel counts every packet that had no route, whichever program sent it and however: names
    that were looked up and connections, over IPv4 and IPv6.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            pytest.skip(f"needs a network namespace, which only root may make: {reason}")
        try:
            _loopback_up()
            yield attempts
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


def _loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def attempts():
    """Packets of this namespace that had no route."""
    lines = Path("/proc/self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    sixth = Path("/proc/self/net/snmp6").read_text().split()
    return int(values[names.index("OutNoRoutes")]) + int(sixth[sixth.index("Ip6OutNoRoutes") + 1])
