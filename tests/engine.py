"""A Docker engine of the tests' own: Debian's dockerd on a private socket, without network, ended by its pid."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from dockerparts import Certificates, free_port

IMAGE = "busybox:test"
NAMESAKES = "sh sleep cat echo true false kill env head yes tail id touch seq sed".split()  # noqa: SIM905
PROGRAMS = {  # and the Debian packages that have them
    "dockerd": "docker.io",
    "busybox": "busybox-static",
    "docker-registry": "docker-registry",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
}
START_TIMEOUT = 60.0  # seconds


def missing() -> str | None:
    """Why no engine can be started here; None where one can."""
    if os.geteuid() != 0:
        return "a Docker engine of our own needs root. Run the tests as root, or in a container that is."
    for program, package in PROGRAMS.items():
        if _which(program) is None:
            return f"there is no {program}. On Debian: apt-get install {package}."
    if b"/ld-" in Path(_which("busybox") or "").read_bytes()[:4096]:
        return "busybox is not static. On Debian: apt-get install busybox-static."
    return None


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")


class PrivateEngine:
    """A dockerd with all of its state in one folder.

    Args:
        tls: makes it listen on loopback too, for clients with a certificate; `tls_url` is where.
        live_restore: whether containers go on while it is down, as on a well kept host; a swarm's engine cannot.
        namespace: the network namespace that it lives in, as `ip netns` calls it.
        gpus: how many it tells a swarm that it has, as the resource "gpu".
    """

    def __init__(
        self, tls: Certificates | None = None, live_restore: bool = True, namespace: str | None = None, gpus: int = 0
    ) -> None:
        self._live_restore = live_restore
        self._gpus = gpus
        self._prefix = ["nsenter", f"--net=/var/run/netns/{namespace}"] if namespace else []
        # Not pytest's tmp_path: a socket's path has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="sr-docker-"))
        self.url = f"unix://{self.folder}/s"
        self.tls_url = f"tcp://127.0.0.1:{free_port()}" if tls else ""
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        if self._live_restore:
            arguments.append("--live-restore")
        if self._gpus:
            arguments += ["--node-generic-resource", f"gpu={self._gpus}"]
        for flag, name in (("--data-root", "data"), ("--exec-root", "exec"), ("-p", "pid")):
            arguments += [flag, str(self.folder / name)]
        if self._tls:
            arguments += ["-H", self.tls_url, "--tlsverify", "--tlscacert", str(self._tls.ca)]
            arguments += ["--tlscert", str(self._tls.server_cert), "--tlskey", str(self._tls.server_key)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, _which("dockerd") or "dockerd", *arguments, "-H", self.url],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
                self.stop()
                raise RuntimeError("dockerd does not start:\n" + "\n".join(said))
            time.sleep(0.05)

    def _answers(self) -> bool:
        # Not by the SDK: it leaks a socket for each connection that is refused.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"{self.folder}/s")
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(64)
            except OSError:
                return False

    @property
    def running(self) -> bool:
        return self._process is not None

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.APIClient]:
        with contextlib.closing(docker.APIClient(self.url, version="auto", timeout=60)) as client:
            yield client

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the engine, not its containers."""
        process = self._process
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        (self.folder / "pid").unlink(missing_ok=True)
        self._wait_for_containerd()
        self._process = None  # not before: who sees that it does not run may start the next one

    def _wait_for_containerd(self) -> None:
        """Let the next engine start its own: it waits in vain for one that is dead and not yet buried."""
        note = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            process = Path(f"/proc/{int(note.read_text())}/stat")
            deadline = time.monotonic() + START_TIMEOUT
            while process.read_text().rpartition(")")[2].split()[0] not in "ZX" and time.monotonic() < deadline:
                time.sleep(0.02)
        note.unlink(missing_ok=True)

    def start_swarm(self) -> None:
        """Make it the manager of a swarm of one node."""
        with self.client() as client:
            client.init_swarm(advertise_addr="127.0.0.1", listen_addr=f"127.0.0.1:{free_port()}")

    def load_image(
        self, name: str = IMAGE, command: list[str] | None = None, entrypoint: list[str] | None = None
    ) -> None:
        """Give it an image with a static busybox under the names that tests use, which runs `command` by itself."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(os.path.realpath(_which("busybox") or ""), "bin/busybox")
            for namesake in NAMESAKES:
                link = tarfile.TarInfo(f"bin/{namesake}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            scratch = tarfile.TarInfo("tmp")
            scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(scratch)
        repository, _, tag = name.rpartition(":")
        given = {"CMD": command, "ENTRYPOINT": entrypoint}
        changes = [f"{what} {json.dumps(words)}" for what, words in given.items() if words]
        with self.client() as client:
            client.import_image_from_data(packed.getvalue(), repository=repository, tag=tag, changes=changes)

    def clear(self) -> None:
        """Remove all containers."""
        with self.client() as client:
            for container in client.containers(all=True):
                with contextlib.suppress(docker.errors.APIError):  # somebody else is just removing it
                    client.remove_container(container["Id"], force=True)

    def remove(self) -> None:
        """End containers and engine, and leave nothing behind."""
        if self._process is None and (self.folder / "data").exists():
            self.start()  # what it has left running is ended by it alone
        if self._process is not None:
            self.clear()
            self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
