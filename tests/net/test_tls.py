"""TLS and mutual TLS with certificates made for the test, and every file that can be wrong."""

import shutil
import subprocess
from pathlib import Path

import pytest

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import tls
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import FrameKind
from tests.support.peers import Door, client_hello, run_on, unexpected

OPENSSL = shutil.which("openssl")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates"),
]


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self.certificate = str(directory / "ca.pem")
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test"
        )

    def issue(self, name: str, host: str) -> tuple[str, str]:
        """Return certificate and key of a node at `host`."""
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\n")
        self._openssl(
            "req",
            *_NEW_KEY,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-extfile", extensions.name, "-out", f"{name}.pem"),
        )
        return str(self._directory / f"{name}.pem"), str(self._directory / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        assert OPENSSL is not None
        subprocess.run([OPENSSL, *arguments], cwd=self._directory, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Files:
    """What the tests need, made once."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory / "ours")
        self.ca = authority.certificate
        self.node = authority.issue("node", "IP:127.0.0.1")
        self.elsewhere = authority.issue("elsewhere", "DNS:elsewhere.example")
        self.directory = directory
        stranger = Authority(directory / "theirs")
        self.other_ca = stranger.certificate
        self.stranger = stranger.issue("stranger", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def config(pair: tuple[str, str] = ("", ""), ca: str = "") -> NetConfig:
    return NetConfig(tls_certificate_file=pair[0], tls_key_file=pair[1], tls_ca_file=ca)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def talk(loop_name: str, server: NetConfig, client: NetConfig) -> None:
    """Connect, send a frame there and back, close."""

    async def main() -> None:
        door, caller = Door(echoes=True), Door()
        listener = await TcpTransport(server, unexpected).listen("127.0.0.1:0", door.accept)
        try:
            connection = await TcpTransport(client, unexpected).connect(
                listener.address, client_hello(), caller
            )
            payload = bytes(1 << 20)
            connection.send(FrameKind.REQUESTS, payload)
            assert await caller.handlers[0].got(1) == [(FrameKind.REPLIES, payload)]
            connection.close("done")
            assert await door.handlers[0].end() == "done"
            await connection.wait_closed()
        finally:
            await listener.close()

    run_on(loop_name, main)


def test_an_encrypted_connection_carries_frames(loop_name: str, files: Files) -> None:
    talk(loop_name, config(files.node), config(ca=files.ca))


def test_both_ends_can_demand_certificates(loop_name: str, files: Files) -> None:
    both = config(files.node, files.ca)
    talk(loop_name, both, both)


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_node_refuses_a_client_without_the_right_certificate(
    loop_name: str, files: Files, who: str
) -> None:
    pair = files.stranger if who == "stranger" else ("", "")
    with pytest.raises((errors.ProtocolError, errors.NodeUnavailableError)):
        talk(loop_name, config(files.node, files.ca), config(pair, files.ca))


def test_a_client_refuses_a_node_of_another_authority(loop_name: str, files: Files) -> None:
    with pytest.raises(errors.ProtocolError, match=r"TLS with 127\.0\.0\.1:\d+ failed.*verify"):
        talk(loop_name, config(files.node), config(ca=files.other_ca))


def test_a_client_refuses_a_certificate_for_another_host(loop_name: str, files: Files) -> None:
    with pytest.raises(errors.ProtocolError, match="IP address mismatch"):
        talk(loop_name, config(files.elsewhere), config(ca=files.ca))


def test_ends_that_disagree_about_tls_say_so(loop_name: str, files: Files) -> None:
    with pytest.raises(errors.NodeUnavailableError, match=r"is the TLS setting the same|broke"):
        talk(loop_name, config(files.node), config())
    with pytest.raises(errors.ProtocolError, match=r"TLS with .* failed"):
        talk(loop_name, config(), config(ca=files.ca))


def test_without_files_there_is_no_tls() -> None:
    assert tls.server_context(config()) is None
    assert tls.client_context(config()) is None


def test_a_client_without_an_authority_trusts_those_of_the_system(files: Files) -> None:
    context = tls.client_context(config(files.node))
    assert context is not None
    assert context.check_hostname


def test_every_wrong_file_is_named_with_what_is_wrong(files: Files) -> None:
    certificate, key = files.node
    garbage = files.directory / "garbage.pem"
    garbage.write_text("not PEM")
    locked = files.directory / "locked.key"
    subprocess.run(
        [str(OPENSSL), "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    for wrong, message in [
        (
            config(("/nowhere.pem", key)),
            "tls_certificate_file /nowhere.pem cannot be read: No such",
        ),
        (config((certificate, "/nowhere.key")), "tls_key_file /nowhere.key cannot be read"),
        (config((certificate, str(files.directory))), "cannot be read: Is a directory"),
        (config((certificate, "")), "tls_certificate_file is set but tls_key_file is not"),
        (config(("", key)), "tls_key_file is set but tls_certificate_file is not"),
        (config((certificate, files.elsewhere[1])), "is not the key of tls_certificate_file"),
        (config((str(garbage), key)), "is not a PEM file"),
        (config((certificate, str(locked))), "is encrypted"),
        (config(files.node, str(garbage)), "holds no PEM certificate"),
        (config(files.node, "/nowhere.ca"), "tls_ca_file /nowhere.ca cannot be read"),
        (config(ca=files.ca), "a node that listens with TLS needs a certificate"),
    ]:
        with pytest.raises(errors.ConfigError, match=message):
            tls.server_context(wrong)
