"""Dovecot, Postfix, postsrsd and rspamd as child processes on loopback ports, and an SMTP server of another host."""

import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from io import BufferedIOBase
from pathlib import Path

from tests.support.waiting import block_until
from tools.ports import free_ports

STOP_SECONDS = 20
GREETING_SECONDS = 30
HOSTNAME = "mail.postroom.example"
MAIL_USER, MAIL_GROUP = "nobody", "nogroup"
RSPAMD_USER = "_rspamd"

DOVECOT_TEST_SETTINGS = """
# Of this test: ports, directories, no delays after wrong passwords, and one process for all connections before login.
protocols = imap lmtp
base_dir = {run}
state_dir = {run}
log_path = {log}
auth_failure_delay = 0
mail_max_userip_connections = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  service_count = 0
  client_limit = 100
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {imaps}
  }}
}}
"""

# Directories, where mail for other hosts goes, and short waits. Clients of the test are not of this host, and have no
# names: a resolver of the machine that does not respond would delay every connection.
POSTFIX_TEST_SETTINGS = {
    "data_directory": "{directory}/postfix-data",
    "maillog_file_prefixes": "{directory}",
    "maillog_file": "{log}",
    "relayhost": "[127.0.0.1]:{sink}",
    "mynetworks": "127.0.0.2/32",
    "smtp_tls_security_level": "none",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
    "queue_run_delay": "1s",
    "in_flow_delay": "0",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "smtpd_peername_lookup": "no",
}

# rspamd is a milter only, which asks no other host; compiling all public suffixes would take ten seconds.
RSPAMD_TEST_SETTINGS = {
    "options.inc": 'url_tld = "{data}/suffixes"; disable_hyperscan = true;'
    ' dns {{ nameserver = ["127.0.0.1:1"]; timeout = 10ms; retransmits = 1; }}',
    "worker-normal.inc": "enabled = false;",
    "worker-controller.inc": "enabled = false;",
    "fuzzy_check.conf": "enabled = false;",
    "rbl.conf": "enabled = false;",
}


@dataclass(frozen=True)
class Ports:
    """The ports of the mail servers, all on 127.0.0.1."""

    imap: int
    imaps: int
    smtp: int
    submission: int
    submissions: int
    forward: int
    srs_forward: int
    srs_reverse: int
    doveadm: int
    rspamd: int

    @classmethod
    def choose(cls) -> "Ports":
        """Return ports that are free, no two of them equal."""
        return cls(*free_ports(len(fields(cls))))


@dataclass
class Process:
    """A server as a child process in a session of its own."""

    command: Sequence[str]
    log: Path
    user: str | None = None
    """The user that runs it, and its group; None: this process's."""
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )

    def stop(self) -> None:
        """End the server and every process of its session: a child that ends later holds a port of the next server."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
            block_until(lambda: not session(process.pid), STOP_SECONDS)
        except (subprocess.TimeoutExpired, AssertionError):
            for pid in session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    @property
    def has_exited(self) -> bool:
        return self._process is None or self._process.poll() is not None


class MailServers:
    """Dovecot, Postfix and postsrsd with the configuration that `postroom mail-config` has written."""

    def __init__(self, directory: Path, ports: Ports, sink_port: int) -> None:
        self.directory, self.ports = directory, ports
        self.dovecot_directory, self.postfix_directory = directory / "dovecot", directory / "postfix"
        self.rspamd_directory, self.rspamd_data = directory / "rspamd", directory / "rspamd-data"
        self.dkim_directory = directory / "dkim"
        self.mail_directory = directory / "mail"
        self.queue_directory = directory / "queue"
        self._sink_port = sink_port
        self.dovecot_log, self.postfix_log = directory / "dovecot.log", directory / "postfix.log"
        self.dovecot = Process(
            ["/usr/sbin/dovecot", "-F", "-c", str(self.dovecot_directory / "dovecot.conf")], self.dovecot_log
        )
        self.postfix = Process(
            ["/usr/lib/postfix/sbin/master", "-s", "-c", str(self.postfix_directory)], directory / "master.log"
        )
        self.postsrsd = Process(
            [
                *("/usr/sbin/postsrsd", "-4", f"-s{directory}/srs.secret", f"-d{HOSTNAME}"),
                *(f"-f{ports.srs_forward}", f"-r{ports.srs_reverse}", "-unobody"),
            ],
            directory / "postsrsd.log",
        )
        # Debian's rspamd.conf, with this test's directories.
        variables = {"LOCAL_CONFDIR": self.rspamd_directory} | dict.fromkeys(
            ("DBDIR", "RUNDIR", "LOGDIR"), self.rspamd_data
        )
        self.rspamd = Process(
            [
                *("/usr/bin/rspamd", "-f", "-c", "/etc/rspamd/rspamd.conf"),
                *(f"--var={name}={value}" for name, value in variables.items()),
            ],
            directory / "rspamd.out",
            RSPAMD_USER,
        )

    def prepare(self) -> None:
        """Add to the configuration what is of this test, and create the directories."""
        self.mail_directory.mkdir()
        shutil.chown(self.mail_directory, MAIL_USER, MAIL_GROUP)
        (self.directory / "srs.secret").write_text("a secret of this test")
        self.rspamd_data.mkdir()
        shutil.chown(self.rspamd_data, RSPAMD_USER, RSPAMD_USER)
        for name, text in RSPAMD_TEST_SETTINGS.items():
            (self.rspamd_directory / "local.d" / name).write_text(text.format(data=self.rspamd_data))
        (self.rspamd_data / "suffixes").write_text("com\nexample\nnet\n")
        (self.dovecot_directory / "local.conf").write_text(
            DOVECOT_TEST_SETTINGS.format(
                run=self.directory / "dovecot-run",
                log=self.dovecot_log,
                imap=self.ports.imap,
                imaps=self.ports.imaps,
            )
        )
        data = self.directory / "postfix-data"
        data.mkdir()
        shutil.chown(data, "postfix", "postfix")
        main, master = self.postfix_directory / "main.cf", self.postfix_directory / "master.cf"
        values = {"directory": self.directory, "log": self.postfix_log, "sink": self._sink_port}
        settings = [f"{name}={value.format(**values)}" for name, value in POSTFIX_TEST_SETTINGS.items()]
        run(["postconf", "-c", str(self.postfix_directory), "-e", *settings])
        services = master.read_text()
        for name in ("smtp", "submissions", "submission"):
            port = getattr(self.ports, name)
            services, changed = re.subn(rf"(?m)^{name} +inet", f"127.0.0.1:{port} inet", services)
            assert changed == 1
        master.write_text(services)
        for each in ("dynamicmaps.cf", "dynamicmaps.cf.d"):
            source = Path("/etc/postfix") / each
            if source.is_dir():
                shutil.copytree(source, self.postfix_directory / each)
            else:
                shutil.copy(source, self.postfix_directory / each)
        # Postfix waits for a while if its configuration is new: it may be half written.
        past = time.time() - 3_600
        for file in (main, master):
            set_times(file, past)
        self.queue_directory.mkdir(exist_ok=True)
        run(["postfix", "-c", str(self.postfix_directory), "check"])

    def start(self) -> None:
        self.rspamd.start()  # takes the longest
        for process, port in (
            (self.postsrsd, self.ports.srs_reverse),
            (self.dovecot, self.ports.imap),
            (self.postfix, self.ports.smtp),
        ):
            process.start()
            self._wait_for(process, port)
        self._wait_for(self.rspamd, self.ports.rspamd)
        self._check_greetings()

    def start_rspamd(self) -> None:
        self.rspamd.start()
        self._wait_for(self.rspamd, self.ports.rspamd)

    def _wait_for(self, process: Process, port: int) -> None:
        block_until(lambda: process.has_exited or accepts(port))
        assert not process.has_exited, f"{process.command} has exited:\n{self.logs()}"

    def _check_greetings(self) -> None:
        """Check that these servers answer, and no others that have taken their ports.

        A server greets once it listens on all of its ports and sockets, and Dovecot once it can authenticate.
        """
        for port, expected in (
            (self.ports.imap, "* OK "),
            (self.ports.smtp, f"220 {HOSTNAME}"),
            (self.ports.submission, f"220 {HOSTNAME}"),
        ):
            with socket.create_connection(("127.0.0.1", port), GREETING_SECONDS) as connection:
                greeting = connection.recv(1_024)
            assert greeting.startswith(expected.encode()), f"port {port}: {greeting!r}\n{self.logs()}"

    def check(self) -> None:
        """Check that every server still runs. Raises AssertionError with the logs if one does not."""
        processes = (self.postfix, self.dovecot, self.postsrsd, self.rspamd)
        exited = [process.command[0] for process in processes if process.has_exited]
        assert not exited, f"{exited} have exited:\n{self.logs()}"

    def restart(self) -> None:
        """Restart Dovecot and Postfix, so that they hold no connection to the database."""
        self.dovecot.stop()
        self.dovecot.start()
        self._wait_for(self.dovecot, self.ports.imap)
        self.restart_postfix()

    def restart_postfix(self) -> None:
        """Restart Postfix alone, so that none of its processes remembers a failure of the database."""
        self.postfix.stop()
        self.postfix.start()
        self._wait_for(self.postfix, self.ports.smtp)
        self._check_greetings()

    def stop(self) -> None:
        for process in (self.postfix, self.dovecot, self.postsrsd, self.rspamd):
            process.stop()

    def logs(self) -> str:
        """Return the end of every log, for the message of a failure."""
        logs = (
            *(self.dovecot_log, self.postfix_log, self.directory / "master.log", self.directory / "postsrsd.log"),
            *(self.rspamd.log, self.rspamd_data / "rspamd.log"),
        )
        return "\n".join(
            f"--- {log.name} ---\n{log.read_text(errors='replace')[-6_000:]}" for log in logs if log.exists()
        )

    def wait_until_queue_is_empty(self) -> None:
        """Wait until Postfix has delivered or returned every message.

        A message may escape one search, by moving to a queue that was searched before it, or by leaving a bounce or a
        forwarded copy there. It does not do so in the next one: after each move comes a delivery, or a second's wait.
        """
        block_until(lambda: not any(self._queued() for _ in range(2)))

    def _queued(self) -> list[str]:
        """Return the names of the queue's files. The order of the search is that in which a message moves."""
        queues = [self.queue_directory / name for name in ("maildrop", "incoming", "active", "deferred")]
        return [name for queue in queues for _, _, names in os.walk(queue) for name in names]


def run(command: Sequence[str]) -> str:
    """Run a command; returns its output. Raises AssertionError with it if the command fails."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=STOP_SECONDS)
    output = completed.stdout + completed.stderr
    assert completed.returncode == 0, f"{command}: {output}"
    return output


def set_times(file: Path, seconds: float) -> None:
    os.utime(file, (seconds, seconds))


def session(leader: int) -> list[int]:
    """Return the pids of the processes of a session; without zombies, which the init of a container may leave."""
    pids = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, sid = (directory / "stat").read_text().rpartition(") ")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited meanwhile
        if int(sid) == leader and state != "Z":
            pids.append(int(directory.name))
    return pids


def accepts(port: int) -> bool:
    """Whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- Another host -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """A message that another host has received."""

    sender: str
    recipients: tuple[str, ...]
    text: str


class Sink:
    """The SMTP server of all other hosts: it keeps every message, and accepts all recipients but `refused@…`."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        messages = self.messages

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 another host\r\n")
                serve(self.rfile, self.wfile, messages)

        return Handler

    @contextmanager
    def running(self) -> Iterator["Sink"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()
        thread.join()

    def wait_for(self, recipient: str, count: int = 1) -> list[Received]:
        """Wait for messages to a recipient; returns them."""
        return block_until(lambda: found if len(found := self.to(recipient)) >= count else None)

    def to(self, recipient: str) -> list[Received]:
        return [each for each in self.messages if recipient in each.recipients]


def serve(reader: BufferedIOBase, writer: BufferedIOBase, messages: list[Received]) -> None:
    """Serve one SMTP connection."""
    sender = ""
    recipients: list[str] = []
    for line in iter(reader.readline, b""):
        verb, _, argument = line.decode(errors="replace").strip().partition(" ")
        address = re.sub(r"^\w+:\s*<([^>]*)>.*$", r"\1", argument)
        match verb.upper():
            case "MAIL":
                sender, recipients = address, []
            case "RCPT" if address.startswith("refused@"):
                writer.write(b"550 5.1.1 no such user\r\n")
                continue
            case "RCPT":
                recipients.append(address)
            case "DATA":
                writer.write(b"354 go on\r\n")
                lines = []
                while (line := reader.readline()) != b".\r\n":
                    if not line:
                        return  # the client has disconnected: it sends the message again
                    lines.append(line.removeprefix(b"."))
                messages.append(Received(sender, tuple(recipients), b"".join(lines).decode(errors="replace")))
            case "QUIT":
                writer.write(b"221 bye\r\n")
                return
        writer.write(b"250 ok\r\n")
