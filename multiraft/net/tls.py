"""TLS and mutual TLS, from the three files that the configuration names.

| certificate, key | authority | this node accepts | this side connects |
| --- | --- | --- | --- |
| no | no | plain | plain |
| no | yes | nobody (ConfigError) | checks the node |
| yes | no | anybody, encrypted | checks the node against the system's authorities |
| yes | yes | who presents a certificate | checks the node, presents its own |

The node's certificate must be valid for the host that is connected to. Only TLS 1.3 is spoken: both
ends are ours.
"""

import ssl
from pathlib import Path

from multiraft import errors
from multiraft.config import NetConfig


def server_context(config: NetConfig) -> ssl.SSLContext | None:
    """Return what a listener needs, or None for plain TCP. Raises ConfigError."""
    if not _is_on(config):
        return None
    if not config.tls_certificate_file:
        raise errors.ConfigError(
            "tls_ca_file is set but tls_certificate_file is not: "
            "a node that listens with TLS needs a certificate and its key"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load_certificate(context, config)
    if config.tls_ca_file:
        _load_authority(context, config)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(config: NetConfig) -> ssl.SSLContext | None:
    """Return what a connecting side needs, or None for plain TCP. Raises ConfigError."""
    if not _is_on(config):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if config.tls_ca_file:
        _load_authority(context, config)
    else:
        context.load_default_certs()
    if config.tls_certificate_file:
        _load_certificate(context, config)
    return context


def _is_on(config: NetConfig) -> bool:
    if config.tls_key_file and not config.tls_certificate_file:
        raise errors.ConfigError("tls_key_file is set but tls_certificate_file is not")
    if config.tls_certificate_file and not config.tls_key_file:
        raise errors.ConfigError("tls_certificate_file is set but tls_key_file is not")
    return bool(config.tls_certificate_file or config.tls_ca_file)


def _load_certificate(context: ssl.SSLContext, config: NetConfig) -> None:
    certificate, key = config.tls_certificate_file, config.tls_key_file
    _check_readable("tls_certificate_file", certificate)
    _check_readable("tls_key_file", key)

    def refuse_to_ask() -> str:
        # Without this, OpenSSL would wait for a password on the terminal of a server.
        raise errors.ConfigError(
            f"tls_key_file {key} is encrypted; "
            "give a key without a password that only its owner may read"
        )

    try:
        context.load_cert_chain(certificate, key, password=refuse_to_ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise errors.ConfigError(
                f"tls_key_file {key} is not the key of tls_certificate_file {certificate}"
            ) from error
        raise errors.ConfigError(
            f"tls_certificate_file {certificate} or tls_key_file {key} is not a PEM file "
            f"of the right content ({error.reason or error})"
        ) from error


def _load_authority(context: ssl.SSLContext, config: NetConfig) -> None:
    _check_readable("tls_ca_file", config.tls_ca_file)
    try:
        context.load_verify_locations(cafile=config.tls_ca_file)
    except ssl.SSLError as error:
        raise errors.ConfigError(
            f"tls_ca_file {config.tls_ca_file} holds no PEM certificate ({error.reason or error})"
        ) from error


def _check_readable(setting: str, name: str) -> None:
    try:
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise errors.ConfigError(f"{setting} {name} cannot be read: {error.strerror}") from error
