from pathlib import Path

from multiraft.cli import machine

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdb /tmp/data xfs rw 0 0
"""


def test_the_deepest_mount_decides() -> None:
    found = [
        machine.filesystem_of(Path(path), MOUNTS)
        for path in ("/home/a", "/tmp", "/tmp/data/x", "/tmpfile")
    ]
    assert found == ["ext4", "tmpfs", "xfs", "ext4"]


def test_this_machine_can_be_described(tmp_path: Path) -> None:
    here = machine.describe(tmp_path)
    assert here.cores >= 1
    assert here.filesystem in machine.one_line(here)
