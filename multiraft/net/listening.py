"""Sockets: bound to an address with errors that say what to do, and tuned for our traffic."""

import asyncio
import contextlib
import errno
import socket

from multiraft import errors
from multiraft.net import addresses

BACKLOG = 4_096

_KEEP_ALIVE_PROBES = 3


async def bind(loop: asyncio.AbstractEventLoop, address: str) -> socket.socket:
    """Return a socket bound to `address`, not listening yet.

    A name that has several addresses is bound to the first. Raises AddressInUseError, ConfigError.
    """
    host, port = addresses.split(address)
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise errors.ConfigError(
            f"cannot listen on {address}: {host} is not known ({error.strerror}); "
            "use an address of this machine, such as 127.0.0.1"
        ) from error
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # A restarted node must get its port back while old connections are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, address) from error
    return sock


def tune(sock: socket.socket | None, dead_peer_ms: int) -> None:
    """Send at once, and notice a peer machine that is gone without a word.

    Options that the platform lacks are left out; heartbeats above notice such a peer anyway.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    probe_s = max(1, dead_peer_ms // 1_000 // (_KEEP_ALIVE_PROBES + 1))
    # Some systems refuse options on a socket whose peer has gone; the next read will tell.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", probe_s),
            ("TCP_KEEPINTVL", probe_s),
            ("TCP_KEEPCNT", _KEEP_ALIVE_PROBES),
            ("TCP_USER_TIMEOUT", dead_peer_ms),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _explained(error: OSError, address: str) -> errors.StartupError:
    if error.errno == errno.EADDRINUSE:
        return errors.AddressInUseError(
            f"{address} is in use by another process; "
            "choose another port, or stop what listens there"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return errors.ConfigError(
            f"cannot listen on {address}: this machine does not have that address; "
            "use one of its own, or 0.0.0.0 for all of them"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return errors.ConfigError(
            f"cannot listen on {address}: not permitted; ports below 1024 need privileges"
        )
    return errors.ConfigError(f"cannot listen on {address}: {error.strerror}")
