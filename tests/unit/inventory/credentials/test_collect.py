"""A state's credentials are all found where they lie, and what may be missing is always told."""

from dataclasses import replace
from pathlib import Path

import pytest
from diskimages import run
from memorymachines import Broken, File, Link, MemoryFileSystem, machine_of, uuid_of

from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.inventory.credentials import collect, finder, read_credentials
from undercroft.model.credentials import Credentials, Key, Secret
from undercroft.model.schema import decode, encode

PASSWD = (
    b"root:x:0:0:root:/root:/bin/bash\n"
    b"daemon:x:1:1:daemon:/nonexistent:/usr/sbin/nologin\n"
    b"alice:x:1000:1000::/home/alice:/bin/bash\n"
)
Files = dict[str | bytes, bytes | File | Link | Broken]


def credentials_of(files: Files) -> Credentials:
    system: Files = {"etc/os-release": b"ID=debian\n", "etc/passwd": PASSWD, "etc/shadow": b"root:*:1:\n"}
    found = read_credentials(machine_of(vda=MemoryFileSystem({**system, **files}, uuid=uuid_of(1))))
    assert decode(Credentials, encode(found)) == found
    return found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes, str]]:
    """Private half, public line and fingerprint of a few keys."""
    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name in ("alice", "laptop", "ca", "host", "other"):
        path = folder / name
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
        public = path.with_suffix(".pub")
        made[name] = path.read_bytes(), public.read_bytes(), run("ssh-keygen", "-lf", public).split()[1]
    return made


def short(key: Key) -> tuple[str, str, str, str]:
    return key.role, key.owner, key.fingerprint, key.path


def test_keys_are_found_with_their_role_and_owner(keys: dict[str, tuple[bytes, bytes, str]]) -> None:
    found = credentials_of(
        {
            "home/alice/.ssh/authorized_keys": b"# mine\n" + keys["laptop"][1],
            "home/alice/.ssh/id_ed25519": keys["alice"][0],
            "root/.ssh/authorized_keys2": b"cert-authority " + keys["ca"][1],
            "etc/ssh/ssh_host_ed25519_key": keys["host"][0],
            "etc/ssh/ssh_host_ed25519_key.pub": keys["other"][1],
        }
    )
    assert [short(key) for key in found.keys] == sorted(
        [
            ("authorized", "alice", keys["laptop"][2], "/home/alice/.ssh/authorized_keys"),
            ("user", "alice", keys["alice"][2], "/home/alice/.ssh/id_ed25519"),
            ("ca", "root", keys["ca"][2], "/root/.ssh/authorized_keys2"),
            ("host", "", keys["host"][2], "/etc/ssh/ssh_host_ed25519_key"),
        ]
    )
    assert found.secrets == (
        Secret("/etc/ssh/ssh_host_ed25519_key", "SSH private key"),
        Secret("/home/alice/.ssh/id_ed25519", "SSH private key"),
    )
    assert found.problems == ()


def test_keys_are_found_where_sshd_is_told_to_look(keys: dict[str, tuple[bytes, bytes, str]]) -> None:
    found = credentials_of(
        {
            "etc/ssh/sshd_config": b"Include sshd_config.d/*.conf\nTrustedUserCAKeys /etc/ssh/ca.pub\n",
            "etc/ssh/sshd_config.d/a.conf": b"AuthorizedKeysFile=/srv/keys/%u keys/%%h\n",
            "etc/ssh/ca.pub": keys["ca"][1],
            "srv/keys/alice": keys["alice"][1],
            "root/keys/%h": keys["other"][1],
            "etc/ssh/authorized_keys/alice": keys["laptop"][1],
        }
    )
    assert [short(key)[:3] for key in found.keys] == sorted(
        [
            ("authorized", "alice", keys["alice"][2]),
            ("authorized", "alice", keys["laptop"][2]),
            ("authorized", "root", keys["other"][2]),
            ("ca", "", keys["ca"][2]),
        ]
    )
    assert found.problems == ()


@pytest.mark.parametrize(
    "line",
    [
        b"AuthorizedKeysCommand /usr/bin/keys",
        b"AuthorizedKeysFile /srv/%k",
        b"Include /srv/more.conf",
    ],
)
def test_settings_whose_keys_stand_elsewhere_are_told(line: bytes) -> None:
    assert credentials_of({"etc/ssh/sshd_config": line + b"\n"}).problems


def test_certificates_and_keys_are_found_outside_the_bundle(tmp_path: Path) -> None:
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=web01.example.org", "-keyout", tmp_path / "key", "-out", tmp_path / "pem",
    )  # fmt: skip
    pem, key = (tmp_path / "pem").read_bytes(), (tmp_path / "key").read_bytes()
    printed = run("openssl", "x509", "-in", tmp_path / "pem", "-noout", "-fingerprint", "-sha256")
    found = credentials_of(
        {
            "etc/letsencrypt/archive/web01/fullchain1.pem": pem,
            "etc/letsencrypt/archive/web01/privkey1.pem": key,
            "etc/letsencrypt/live/web01/fullchain.pem": Link(b"../../archive/web01/fullchain1.pem"),
            "etc/ssl/certs/ca-certificates.crt": pem * 100,
            "etc/ssl/certs/linked.pem": Link(b"/usr/share/ca-certificates/linked.crt"),
            "usr/share/ca-certificates/linked.crt": pem,
            "etc/ssl/private/raw.der": b"\x30\x82",
        }
    )
    fingerprint = printed.strip().split("=")[1].replace(":", "").lower()
    assert [(each.path, each.fingerprint) for each in found.certificates] == [
        ("/etc/letsencrypt/archive/web01/fullchain1.pem", fingerprint)
    ]
    assert [secret.path for secret in found.secrets] == [
        "/etc/letsencrypt/archive/web01/privkey1.pem",
        "/etc/ssl/private/raw.der",
    ]


def test_tokens_are_named_by_place_and_only_where_there_are_any() -> None:
    token = b"very-secret-token"
    found = credentials_of(
        {
            "home/alice/.aws/credentials": token,
            "home/alice/.docker/config.json": b'{"auths": {"example.org": {"auth": "' + token + b'"}}}',
            "root/.docker/config.json": b"{}",
            "root/.netrc": b"",
            "etc/krb5.keytab": token,
            "etc/wireguard/wg0.conf": b"[Interface]\nPrivateKey = " + token,
            "etc/wireguard/README": b"nothing",
            "etc/NetworkManager/system-connections/home.nmconnection": b"[wifi-security]\npsk=" + token,
        }
    )
    assert [secret.path for secret in found.secrets] == [
        "/etc/NetworkManager/system-connections/home.nmconnection",
        "/etc/krb5.keytab",
        "/etc/wireguard/wg0.conf",
        "/home/alice/.aws/credentials",
        "/home/alice/.docker/config.json",
    ]
    assert token.decode() not in repr(found)


def test_a_home_that_leads_out_of_the_tree_stays_in_the_guest(
    keys: dict[str, tuple[bytes, bytes, str]],
) -> None:
    found = credentials_of(
        {
            "home/alice": Link(b"../../../../../srv/alice"),
            "srv/alice/.ssh/authorized_keys": keys["alice"][1],
            "root/.ssh": Link(b"/root/.ssh"),
        }
    )
    assert [key.fingerprint for key in found.keys] == [keys["alice"][2]]


def test_a_file_that_cannot_be_read_is_a_problem() -> None:
    found = credentials_of(
        {
            "home/alice/.ssh/authorized_keys": Broken(),
            "root/.ssh/authorized_keys": b"x" * (collect.MAX_KEYS_FILE_BYTES + 1),
            "root/.aws/credentials": Broken(),
        }
    )
    for path in ("/home/alice/.ssh/authorized_keys", "/root/.ssh/authorized_keys", "/root/.aws/credentials"):
        assert any(path in problem for problem in found.problems), found.problems


def test_a_pipe_in_the_place_of_a_key_file_is_told_and_not_waited_for() -> None:
    class WithPipe(MemoryFileSystem):
        def stat(self, node: int) -> FileStat:
            stat = super().stat(node)
            return stat._replace(kind=FileKind.FIFO) if stat.size_bytes == 777 else stat

    files: Files = {
        "etc/os-release": b"ID=debian\n",
        "etc/passwd": PASSWD,
        "root/.ssh/authorized_keys": b"x" * 777,
    }
    found = read_credentials(machine_of(vda=WithPipe(files, uuid=uuid_of(1))))
    assert any("/root/.ssh/authorized_keys" in problem for problem in found.problems)


def test_a_home_on_a_disk_that_was_not_read_is_told() -> None:
    fstab = f"UUID={uuid_of(1)} / ext4 defaults 0 1\nUUID={uuid_of(7)} /home ext4 defaults 0 2\n"
    found = credentials_of({"etc/fstab": fstab.encode()})
    assert any(problem.startswith("/home: mounted by the guest and not read") for problem in found.problems)
    assert credentials_of({}).problems == ()  # control: with no such mount nothing is missing


def test_a_guest_without_a_root_has_unknown_credentials() -> None:
    found = read_credentials(machine_of(vda=MemoryFileSystem({"data": b""}, uuid=uuid_of(1))))
    assert found == replace(Credentials(), problems=found.problems)
    assert found.problems


def test_bulk_is_left_at_its_limit_and_told() -> None:
    passwd = b"".join(b"u%d:x:%d:1::/home/u%d:/bin/sh\n" % (n, n, n) for n in range(2 * collect.MAX_HOMES))
    files: Files = {"etc/passwd": passwd, "home/u1/.ssh/authorized_keys": b"junk\n" * 100_000}
    files |= {f"home/u2/.ssh/{number}": b"" for number in range(2 * collect.MAX_SSH_FILES)}
    problems = credentials_of(files).problems
    assert len(problems) <= finder.MAX_PROBLEMS + 1
    assert any("over the limit" in problem for problem in problems)
    assert any("/home/u2/.ssh: more than" in problem for problem in problems)


def test_a_budget_that_is_used_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "MAX_ALL_BYTES", 1000)
    found = credentials_of({"etc/nginx/a": b"x" * 2000, "etc/nginx/b": b"-----BEGIN PRIVATE KEY-----"})
    assert any("nothing was read" in problem for problem in found.problems)
