import pytest

from bench.compare.etcd import client
from bench.compare.peer import Load, PeerFailedError
from multiraft.cli.measure import Latency

GRPC_LOAD = (
    b'{"requests":1447,"failed":%d,"seconds":1.000500,"p50_us":650,"p99_us":1900,"p999_us":2500,'
    b'"max_us":4000,"response_bytes":40000,"cpu_s":0.071000,"problem":"%s"}\n'
)

H2LOAD = """\
starting benchmark...
finished in 1.00s, 3.00 req/s, 1.2KB/s
requests: 3 total, 4 started, 3 done, 3 succeeded, {failed} failed, {errored} errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx
"""

LOG = "1700000000000000\t200\t500\n1700000000000500\t200\t900\n1700000000001000\t200\t700\n"


def test_what_the_compiled_client_prints_is_read() -> None:
    assert client.read_report(GRPC_LOAD % (0, b""), 10) == Load(
        1_447, 1.0005, Latency(0.65, 1.9, 2.5, 4.0), 0.071
    )


def test_a_failed_request_fails_the_load_and_says_why() -> None:
    with pytest.raises(PeerFailedError, match="2 requests failed: etcdserver: no space"):
        client.read_report(GRPC_LOAD % (2, b"etcdserver: no space"), 0)


def test_answers_that_lack_rows_fail_the_load() -> None:
    with pytest.raises(PeerFailedError, match="lack rows"):
        client.read_report(GRPC_LOAD % (0, b""), 100)


def test_what_h2load_prints_and_logs_is_read() -> None:
    output = H2LOAD.format(failed=0, errored=0)
    assert client.read_h2load(output, LOG, 0.2) == Load(3, 1.0, Latency(0.7, 0.9, 0.9, 0.9), 0.2)


@pytest.mark.parametrize(("failed", "errored"), [(1, 0), (0, 1)])
def test_a_failed_request_of_h2load_fails_the_load(failed: int, errored: int) -> None:
    with pytest.raises(PeerFailedError):
        client.read_h2load(H2LOAD.format(failed=failed, errored=errored), LOG, 0.2)


def test_h2load_that_could_not_begin_fails_the_load() -> None:
    with pytest.raises(PeerFailedError, match="refused"):
        client.read_h2load("refused", "", 0.0)


@pytest.mark.parametrize(
    ("callers", "connections"), [(1, 1), (16, 1), (32, 1), (33, 2), (64, 2), (256, 8)]
)
def test_no_connection_has_too_many_streams(callers: int, connections: int) -> None:
    assert client.connections_for(callers) == connections
