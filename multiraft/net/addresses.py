"""Addresses as people write them: "host:port", "[::1]:7400".

A host is a name, an IPv4 address, or an IPv6 address in brackets. It is never empty: an address is
told to other nodes, so it must say which machine it is on.
"""

from multiraft import errors

PORT_MAX = 65_535


def split(address: str) -> tuple[str, int]:
    """Return host (without brackets) and port. Raises ConfigError that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon:
        raise _refusal(address, "it has no host" if address.isdigit() else "it has no port")
    if "/" in address:
        raise _refusal(address, "it holds a slash; it is no URL")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _refusal(address, "an IPv6 address needs brackets")
    elif "[" in host or "]" in host:
        raise _refusal(address, "its brackets do not match")
    if not host:
        raise _refusal(address, "it has no host (0.0.0.0 listens on all interfaces)")
    if any(c.isspace() or not c.isprintable() for c in host):
        raise _refusal(address, "its host holds blanks")
    if not _can_be_looked_up(host):
        raise _refusal(address, "a part of its host, between dots, is empty or too long")
    if not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise _refusal(address, f"its port is not a number from 0 to {PORT_MAX}")
    return host, int(port)


def join(host: str, port: int) -> str:
    """Return the address that `split` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _can_be_looked_up(host: str) -> bool:
    """Return whether the resolver takes `host`: what it cannot encode, it does not answer."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _refusal(address: str, why: str) -> errors.ConfigError:
    return errors.ConfigError(
        f'"{address}" is not an address: {why}; '
        "write HOST:PORT, such as 127.0.0.1:7400 or [::1]:7400"
    )
