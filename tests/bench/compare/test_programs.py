import asyncio
import sys

import pytest

from bench.compare import programs
from bench.compare.peer import PeerFailedError

pytestmark = pytest.mark.integration

BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint('done')"


def run(code: str, timeout_s: float = 60.0) -> programs.Ended:
    return asyncio.run(programs.run([sys.executable, "-c", code], timeout_s=timeout_s))


def test_the_output_and_the_processor_time_of_a_program_are_told() -> None:
    ended = run(BUSY)
    assert ended.output == b"done\n"
    assert 0.2 <= ended.cpu_s < 10


def test_a_program_that_fails_is_told_with_its_reason() -> None:
    with pytest.raises(PeerFailedError, match="status 3: no luck"):
        run("import sys; sys.stderr.write('no luck'); sys.exit(3)")


def test_a_program_that_does_not_end_is_killed() -> None:
    with pytest.raises(PeerFailedError, match=r"did not end within 0\.1 s"):
        run("import time; time.sleep(3600)", timeout_s=0.1)
