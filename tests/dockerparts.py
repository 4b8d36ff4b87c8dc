"""What stands around Docker engines, real and of the tests' own: certificates, a private registry, an ssh server."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USER, PASSWORD = "robot", "open sesame"
HASH = "$2b$04$Nl.DSUJ1J5poRUu6T4GoeuElRwN3YV/byCEu/EXnyKOcQ/6240XpK"  # bcrypt of PASSWORD
START_TIMEOUT = 30.0  # seconds


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Certificates:
    """An authority of the tests' own, and what it has signed for an engine at 127.0.0.1 and for a client."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scriptrules tests")])
        self.ca = folder / "ca.pem"
        self._folder = folder
        self.ca.write_bytes(self._sign(self._name, self._key.public_key(), None))
        self.server_cert, self.server_key = self._issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
        self.client_cert, self.client_key = self._issue("client", ExtendedKeyUsageOID.CLIENT_AUTH)

    def table(self) -> dict[str, str]:
        """The keys of a host's table that name the client's files."""
        return {"tls_ca": str(self.ca), "tls_cert": str(self.client_cert), "tls_key": str(self.client_key)}

    def _issue(self, name: str, usage: x509.ObjectIdentifier) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(self._sign(subject, key.public_key(), usage))
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return cert_file, key_file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, usage: x509.ObjectIdentifier | None) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        )
        if usage is not None:
            address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(address, critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def private_registry() -> Iterator[str]:
    """Debian's registry on loopback, which knows one user; gives its name, as images begin."""
    folder = Path(tempfile.mkdtemp(prefix="sr-registry-"))
    name = f"127.0.0.1:{free_port()}"
    (folder / "htpasswd").write_text(f"{USER}:{HASH}\n")
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: {name}, secret: tests}}\n"
        f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"
    )
    with _process(["docker-registry", "serve", str(folder / "config.yml")], folder, name):
        yield name


@contextlib.contextmanager
def ssh_server() -> Iterator[tuple[str, Path]]:
    """An sshd on loopback that lets one key in; gives "user@host:port", and a configuration for ssh."""
    folder = Path(tempfile.mkdtemp(prefix="sr-ssh-"))
    port = free_port()
    for key in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True, capture_output=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nAuthorizedKeysFile {folder}/client.pub\n"
    )
    known = f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
    (folder / "known_hosts").write_text(known)
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/client\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
    )
    arguments = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
    with _process(arguments, folder, f"127.0.0.1:{port}"):
        yield f"root@127.0.0.1:{port}", folder / "ssh_config"


@contextlib.contextmanager
def _process(arguments: list[str], folder: Path, address: str) -> Iterator[None]:
    """A process with its files in `folder` that listens at `address` within the block."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ))
    try:
        deadline = time.monotonic() + START_TIMEOUT
        host, port = address.split(":")
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{arguments[0]} does not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
