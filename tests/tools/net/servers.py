"""Real servers for the tests, Radicale, Dovecot and aiosmtpd, and a proxy that breaks them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_tinyagent.tools.interchange.eml import write_letter
from mlx_tinyagent.tools.interchange.ics import write_calendar
from mlx_tinyagent.tools.interchange.records import Event, Letter, Person, Todo
from mlx_tinyagent.tools.interchange.vcf import write_card
from mlx_tinyagent.tools.local.world import World

PASSWORD = "a secret"
IMAP_PASSWORD = PASSWORD.replace(" ", "_")  # its configuration knows no blanks
USERS = 400
NOBODY = 65534
START_S = 20.0  # how long a server may take to come up on a busy machine


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text()}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        threading.Event().wait(0.02)
    raise RuntimeError("the server did not come up")


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server as long as the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(port, process, log)
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)


@dataclass
class DavServer:
    """A running Radicale; every user has the world's contacts, events and reminders."""

    folder: Path
    template: Path
    port: int
    taken: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/"

    def new_user(self, *, filled: bool = True) -> str:
        """Make a user with a copy of the world, or with an empty calendar and list."""
        name = f"user{self.taken}"
        self.taken += 1
        target = self.folder / "collection-root" / name
        if filled:
            shutil.copytree(self.template, target)
        else:
            write_collection(target / "calendar", "VCALENDAR", "Calendar", "VEVENT", {})
            write_collection(target / "tasks", "VCALENDAR", "Tasks", "VTODO", {})
        return name

    def stored(self, user: str, suffix: str = ".ics") -> list[str]:
        """Return what lies on the server's disk, past all protocols."""
        root = self.folder / "collection-root" / user
        return [
            path.read_text("utf-8")
            for path in sorted(root.rglob(f"*{suffix}"))
            if ".Radicale.cache" not in path.parts
        ]


def write_collection(folder: Path, tag: str, name: str, holds: str, items: dict[str, str]) -> None:
    """Write a collection as Radicale keeps it."""
    folder.mkdir(parents=True)
    props = {"tag": tag, "D:displayname": name}
    if holds:
        props["C:supported-calendar-component-set"] = holds
    (folder / ".Radicale.props").write_text(json.dumps(props))
    for item, text in items.items():
        (folder / item).write_text(text, newline="")


def write_dav_world(folder: Path, world: World) -> None:
    """Write the world as one user's collections."""
    cards = {}
    for number, contact in enumerate(world["contacts"]):
        person = Person(
            uid=f"contact-{number}",
            text="",
            name=contact["name"],
            company=contact["company"],
            emails=tuple(contact["emails"]),
            phones=tuple(contact["phones"]),
            nicknames=tuple(contact["nicknames"]),
        )
        cards[f"{number:03}.vcf"] = write_card(person)
    write_collection(folder / "people", "VADDRESSBOOK", "People", "", cards)
    for place, name in enumerate(world["calendars"]):
        events = {}
        for number, item in enumerate(world["events"]):
            if item["calendar"] == name:
                event = Event(
                    uid=f"event-{number}",
                    text="",
                    title=item["title"],
                    starts=item["start"],
                    ends=item["end"],
                    location=item["location"],
                )
                events[f"{number:03}.ics"] = write_calendar("", [event])
        write_collection(folder / f"cal{place}", "VCALENDAR", name, "VEVENT", events)
    for place, name in enumerate(world["reminder_lists"]):
        todo = Todo(uid=f"todo-{place}", text="", name="There already")
        items = {"000.ics": write_calendar("", [todo])}
        write_collection(folder / f"list{place}", "VCALENDAR", name, "VTODO", items)


@contextmanager
def radicale(folder: Path, world: World) -> Iterator[DavServer]:
    """Run a CalDAV and CardDAV server."""
    port = free_port()
    (folder / "users").write_text("".join(f"user{n}:{PASSWORD}\n" for n in range(USERS)))
    (folder / "config").write_text(
        f"[server]\nhosts = 127.0.0.1:{port}\n"
        f"[auth]\ntype = htpasswd\nhtpasswd_filename = {folder}/users\n"
        "htpasswd_encryption = plain\ndelay = 0\nlc_username = False\n"
        f"[storage]\nfilesystem_folder = {folder}\n"
        "[logging]\nlevel = warning\n"
    )
    write_dav_world(folder / "template", world)
    command = [sys.executable, "-m", "radicale", "--config", str(folder / "config")]
    with running(command, port, folder / "log"):
        yield DavServer(folder=folder, template=folder / "template", port=port)


@dataclass
class MailServer:
    """A running Dovecot; every user has the world's mails."""

    folder: Path
    port: int
    taken: int = 0

    def new_user(self, *, filled: bool = True) -> str:
        """Make a user with a copy of the world's inbox, or an empty one."""
        name = f"user{self.taken}"
        self.taken += 1
        if filled:
            shutil.copytree(self.folder / "template", self.folder / "mail" / name)
            _give(self.folder / "mail" / name)
        return name

    def messages(self, user: str, folder: str) -> list[bytes]:
        """Return a folder's messages from the server's disk."""
        root = self.folder / "mail" / user / f".{folder}"
        files = [path for part in ("cur", "new") for path in sorted((root / part).glob("*"))]
        return [path.read_bytes() for path in files]


@contextmanager
def dovecot(world: World) -> Iterator[MailServer]:
    """Run an IMAP server."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="mta-"))  # short: sockets have short names
    folder.chmod(0o755)
    try:
        root = os.getuid() == 0
        uid, gid = (NOBODY, NOBODY) if root else (os.getuid(), os.getgid())  # never root
        (folder / "mail").mkdir()
        _give(folder / "mail")
        own = f"default_internal_user = {_name()}\ndefault_login_user = {_name()}\n"
        (folder / "conf").write_text(
            f"base_dir = {folder}/run\nstate_dir = {folder}/state\nlog_path = {folder}/log\n"
            "protocols = imap\nlisten = 127.0.0.1\nssl = no\ndisable_plaintext_auth = no\n"
            f"mail_location = maildir:{folder}/mail/%u\nfirst_valid_uid = 1\n"
            + ("" if root else own)
            + "service imap-login {\n chroot =\n process_min_avail = 1\n service_count = 0\n"
            f" inet_listener imap {{\n port = {port}\n }}\n"
            " inet_listener imaps {\n port = 0\n }\n}\n"
            "service anvil {\n chroot =\n}\nservice stats {\n chroot =\n}\n"
            "passdb {\n driver = static\n args = password=" + IMAP_PASSWORD + "\n}\n"
            f"userdb {{\n driver = static\n args = uid={uid} gid={gid} "
            f"home={folder}/mail/%u\n}}\n"
            "namespace inbox {\n inbox = yes\n"
            " mailbox Entwürfe {\n special_use = \\Drafts\n auto = create\n }\n"
            " mailbox Sent {\n special_use = \\Sent\n auto = create\n }\n}\n"
        )
        box = folder / "template"
        for part in ("cur", "new", "tmp"):
            (box / part).mkdir(parents=True)
        for number, mail in enumerate(sorted(world["mails"], key=lambda m: m["received"])):
            values = {k: v for k, v in mail.items() if k in Letter.__dataclass_fields__}
            letter = Letter(uid=f"mail-{number}@world.example", text="", **values)
            (box / "cur" / f"{number:03}.x:2,S").write_bytes(write_letter(letter))
        command = ["dovecot", "-F", "-c", str(folder / "conf")]
        with running(command, port, folder / "out"):
            yield MailServer(folder=folder, port=port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give(folder: Path) -> None:
    """Let Dovecot's mail process write: it never runs as root."""
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def _name() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@dataclass
class SmtpServer:
    """A running aiosmtpd that keeps what it is sent."""

    port: int
    received: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    refuse: str = ""  # an address that is refused

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        if address == self.refuse:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a message."""
        self.received.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 OK"


@contextmanager
def aiosmtpd() -> Iterator[SmtpServer]:
    """Run an SMTP server."""
    from aiosmtpd.controller import Controller

    server = SmtpServer(port=free_port())
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


@dataclass
class FaultProxy:
    """Passes bytes on to a server, and breaks the connection where told.

    Attributes:
        upstream: The server's port.
        trigger: Bytes of the client that set the fault off; None sets it off never.
        fault: ``refuse`` (no connection), ``swallow`` (the server answers, the
            client hears nothing), ``silence`` (nobody says anything any more),
            ``garbage`` (the answer is noise), ``half`` (half an answer),
            ``status`` (an answer of our own; the server hears nothing).
        status: HTTP status of that answer.
        times: How often.
    """

    upstream: int
    port: int = 0
    trigger: bytes | None = None
    fault: str = ""
    status: int = 0
    times: int = 0
    fired: int = 0

    def arm(self, fault: str, trigger: bytes = b"", *, status: int = 0, times: int = 1) -> None:
        """Set a fault up."""
        self.fault, self.trigger, self.status, self.times = fault, trigger, status, times
        self.fired = 0

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener closes."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        if self._fires("refuse", b""):
            _reset(client)
            return
        server = socket.create_connection(("127.0.0.1", self.upstream))
        struck = threading.Event()
        threading.Thread(target=self._upward, args=(client, server, struck), daemon=True).start()
        self._downward(client, server, struck)

    def _upward(
        self, client: socket.socket, server: socket.socket, struck: threading.Event
    ) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                seen += data
                if not struck.is_set() and self.trigger and self.trigger in seen:
                    if self._fires("status", seen):
                        struck.set()
                        _answer(client, seen, self.status)
                        server.close()
                        return
                    if self.fault != "refuse" and self._fires(self.fault, seen):
                        struck.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downward(
        self, client: socket.socket, server: socket.socket, struck: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if struck.is_set():
                    self._strike(client, data)
                    return
                client.sendall(data)
            if not struck.is_set():
                _close(client)

    def _strike(self, client: socket.socket, answer: bytes) -> None:
        match self.fault:
            case "swallow":
                _close(client)
            case "garbage":
                client.sendall(b"\x00\xff noise \xfe\r\n\r\n")
                _close(client)
            case "half":
                client.sendall(answer[: len(answer) // 2 or 1])
                _close(client)
            case _:  # silence: the client has to give up by itself
                return

    def _fires(self, fault: str, seen: bytes) -> bool:
        if self.fault != fault or self.fired >= self.times or self.trigger is None:
            return False
        self.fired += 1
        return True


@contextmanager
def proxy(upstream: int) -> Iterator[FaultProxy]:
    """Run a fault proxy before a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = FaultProxy(upstream=upstream, port=int(listener.getsockname()[1]))
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


def _close(client: socket.socket) -> None:
    """Close a connection that another thread may be reading from: closing alone would wait."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    client.close()


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _answer(client: socket.socket, seen: bytes, status: int) -> None:
    """Read the whole HTTP request and answer it."""
    head, _, body = seen.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length and (data := client.recv(65536)):
        body += data
    client.sendall(f"HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\n\r\n".encode())
    client.close()
