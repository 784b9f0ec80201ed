"""Who may have access to a file with a secret, as the kernel lets others in; as root, for real."""

import errno
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.private_file import UnusableFile, exposure, read_private

ROOT, US, GROUP, OURS_TOO, OTHER = 0, 64001, 64002, 64003, 64009

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def secret() -> Iterator[Path]:
    """Return a file in a folder that every user of the machine gets into."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        path = folder / "the secret"
        path.write_text("secret")
        path.chmod(0o600)
        yield path
    finally:
        shutil.rmtree(folder)


def mounted(path: Path, owner: int, group: int, mode: int) -> Path:
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


USER_OBJ, USER, GROUP_OBJ, GROUP_TAG, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
ANY = 0xFFFFFFFF


def with_list(path: Path, *entries: tuple[int, int, int]) -> Path:
    """Give it an access control list, as setfacl does: in the order of its tags."""
    packed = b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip(f"no access control lists in {path.parent}: {error.strerror}")
    return path


def credential(path: Path, user: int = US, rights: int = 4, group: int = 0) -> Path:
    """Leave it as systemd leaves what `LoadCredential=` names (its `exec-credential.c`)."""
    mounted(path, ROOT, ROOT, 0o400)
    return with_list(
        path,
        (USER_OBJ, 4, ANY),
        (USER, rights, user),
        (GROUP_OBJ, group, ANY),
        (MASK, rights | group, ANY),
        (OTHERS, 0, ANY),
    )


@contextmanager
def acting_as(user: int, group: int, *more: int) -> Iterator[None]:
    before = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups(more)
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before[2])
        os.setegid(before[1])
        os.setgroups(before[0])


@as_root
class TestAService:
    """A process that is neither root nor anybody who logs in."""

    @pytest.mark.parametrize(
        ("owner", "group", "mode"),
        [
            pytest.param(US, OTHER, 0o600, id="its own"),
            pytest.param(US, GROUP, 0o640, id="its own, for its group"),
            pytest.param(ROOT, GROUP, 0o640, id="root's, for its group"),
            pytest.param(ROOT, GROUP, 0o440, id="as Kubernetes mounts for runAsGroup"),
            pytest.param(ROOT, OURS_TOO, 0o440, id="as Kubernetes mounts for fsGroup"),
            pytest.param(US, GROUP, 0o400, id="as systemd mounts where there are no lists"),
        ],
    )
    def test_reads_what_is_its_own_or_roots(
        self, secret: Path, owner: int, group: int, mode: int
    ) -> None:
        mounted(secret, owner, group, mode)

        with acting_as(US, GROUP, OURS_TOO):
            assert read_private(secret, 10) == b"secret"

    @pytest.mark.parametrize(
        ("owner", "group", "mode", "problem"),
        [
            (ROOT, GROUP, 0o444, "everybody on this machine has access to it"),
            (US, GROUP, 0o602, "everybody on this machine has access to it"),
            (US, OTHER, 0o640, f"group {OTHER} can read it, which the bridge is not in"),
            (US, GROUP, 0o660, f"group {GROUP} may do more to it than read"),
            (ROOT, GROUP, 0o450, f"group {GROUP} may do more to it than read"),
            (
                OTHER,
                GROUP,
                0o640,
                f"it belongs to user {OTHER}, not to root or the bridge's own, {US}",
            ),
        ],
    )
    def test_refuses_what_others_have_access_to(
        self, secret: Path, owner: int, group: int, mode: int, problem: str
    ) -> None:
        mounted(secret, owner, group, mode)

        with acting_as(US, GROUP), pytest.raises(UnusableFile) as raised:
            read_private(secret, 10)

        told, _, remedy = str(raised.value).rpartition(": ")
        assert told == f"{secret}: {problem}"
        subprocess.run(remedy, shell=True, check=True)
        with acting_as(US, GROUP):
            assert read_private(secret, 10) == b"secret"

    def test_reads_what_systemd_lets_it_by_a_list(self, secret: Path) -> None:
        credential(secret)
        assert stat.S_IMODE(secret.stat().st_mode) == 0o440

        with acting_as(US, GROUP):
            assert read_private(secret, 10) == b"secret"

    @pytest.mark.parametrize(
        ("entries", "problem"),
        [
            ([(USER, 4, OTHER)], f"user {OTHER} has access to it"),
            ([(GROUP_TAG, 4, OTHER)], f"group {OTHER} can read it, which the bridge is not in"),
            ([(GROUP_TAG, 6, GROUP)], f"group {GROUP} may do more to it than read"),
        ],
    )
    def test_refuses_a_list_that_lets_others_in(
        self, secret: Path, entries: Sequence[tuple[int, int, int]], problem: str
    ) -> None:
        mounted(secret, ROOT, GROUP, 0o440)
        with_list(
            secret,
            (USER_OBJ, 4, ANY),
            *entries,
            (GROUP_OBJ, 4, ANY),
            (MASK, 7, ANY),
            (OTHERS, 0, ANY),
        )

        with acting_as(US, GROUP), pytest.raises(UnusableFile) as raised:
            read_private(secret, 10)

        assert f": {problem}: setfacl -b " in str(raised.value)

    def test_takes_an_owning_group_for_what_the_list_lets_it_do(self, secret: Path) -> None:
        credential(secret, group=4)

        with acting_as(US, GROUP), pytest.raises(UnusableFile, match="group 0 can read it"):
            read_private(secret, 10)

    def test_takes_an_entry_that_the_mask_ends_for_nothing(self, secret: Path) -> None:
        mounted(secret, US, GROUP, 0o600)
        with_list(
            secret,
            (USER_OBJ, 6, ANY),
            (USER, 4, OTHER),
            (GROUP_OBJ, 4, ANY),
            (MASK, 0, ANY),
            (OTHERS, 0, ANY),
        )

        with acting_as(US, GROUP):
            assert read_private(secret, 10) == b"secret"


@as_root
def test_root_reads_what_belongs_to_others(secret: Path) -> None:
    assert read_private(mounted(secret, US, OTHER, 0o600), 10) == b"secret"


@as_root
def test_root_refuses_what_a_group_of_others_can_read(secret: Path) -> None:
    said = exposure(mounted(secret, ROOT, OTHER, 0o640))

    assert said == (
        f"{secret}: group {OTHER} can read it, which the bridge is not in: chmod 600 '{secret}'"
    )


def test_a_link_is_judged_by_what_it_leads_to(secret: Path) -> None:
    link = secret.with_name("link")
    link.symlink_to(secret)
    assert exposure(link) is None

    secret.chmod(0o604)

    assert f"{link}: everybody" in str(exposure(link))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert exposure(tmp_path) == f"{tmp_path}: it is not a regular file"


def test_what_is_too_long_is_refused(secret: Path) -> None:
    with pytest.raises(UnusableFile, match="it has more than 5 bytes"):
        read_private(secret, 5)
