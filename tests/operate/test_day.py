"""An operator's day on each engine: from the installation to the upgrade, by the commands and the documentation alone.

The tests are the steps of the day, and run in their order. At the end of each, every acknowledged write is there.
"""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.support import STOP_SECONDS, clean_environment
from tests.operate.day import DOMAINS, Day
from tests.operate.engines import ENGINES
from tests.operate.first_schema import DOMAIN as FIRST_DOMAIN
from tests.operate.first_schema import create_first_schema
from tests.operate.installation import Installation
from tests.operate.ledger import Promised, to_csv
from tests.operate.load import mailbox_counter, under_load
from tests.operate.machine import UNITS, Machine
from tests.operate.names import name_servers
from tests.operate.problems import FAULT, PROBLEMS
from tests.support.waiting import block_until

pytestmark = pytest.mark.usefixtures("in_order")

MAILBOXES = 5_000
QUOTA = 20_000
SOME = 100  # of the mailboxes, at which the import is interrupted
IMPORTED = [
    Promised(
        DOMAINS[number % len(DOMAINS)],
        f"user{number}",
        period="yearly" if number % 7 == 0 else "monthly",
        aliases=(f"also{number}",) if number % 20 == 0 else (),
        forwardings=(f"user{number}@elsewhere.example",) if number % 50 == 0 else (),
    )
    for number in range(MAILBOXES)
]


@pytest.fixture(scope="module", params=list(ENGINES))
def day(
    request: pytest.FixtureRequest, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Day]:
    directory = tmp_path_factory.mktemp(request.param)
    with ENGINES[request.param](directory) as engine, name_servers() as names:
        machine = Machine(directory / "machine", installation, engine.new_database(), names.settings)
        try:
            yield Day(engine, machine, names, directory)
        finally:
            machine.kill()


def test_the_machine_is_set_up_as_documented(day: Day) -> None:
    machine = day.machine
    assert "postroom migrate" in machine.refused("keys", "list", code=1)
    machine.postroom("migrate")
    key = machine.rows("keys", "create", "--new-organization", "--password-hashes", "--name=operator")
    machine.keys["SCW_SECRET_KEY"] = key["SCW_SECRET_KEY"]
    machine.keys["POSTROOM_ADMIN_SECRET"] = machine.rows("admin-keys", "create", "--name=operator")["secret"]
    machine.start(*UNITS)
    machine.wait_until_well()
    assert {"grpc certificate", "https certificate"} <= machine.doctor().keys()
    read_only = machine.rows("keys", "create", "--organization-id", key["SCW_DEFAULT_ORGANIZATION_ID"], "--read-only")
    secret = {"SCW_SECRET_KEY": read_only["SCW_SECRET_KEY"]}
    assert machine.rows("domains", "list", **secret) == []
    machine.postroom("domains", "create", DOMAINS[0], code=5, **secret)
    machine.postroom("keys", "revoke", read_only["SCW_ACCESS_KEY"], "--yes")


def test_domains_are_ready_once_their_zone_is_published(day: Day) -> None:
    machine = day.machine
    for name in DOMAINS:
        machine.postroom("domains", "create", name)
        day.ledger.domains.add(name)
    machine.postroom("domains", "validate", DOMAINS[0], code=1)
    for name in DOMAINS:
        day.names.publish(name, machine.postroom("domains", "show", name, "--zone"))
    for name in DOMAINS:
        machine.succeed_at_last("domains", "validate", name)
    assert {domain["status"] for domain in machine.rows("domains", "list")} == {"ready"}
    day.ledger.check(machine)


def test_5000_mailboxes_are_imported_over_an_interruption(day: Day) -> None:
    machine = day.machine
    command = ("mailboxes", "import", day.directory / "mailboxes.csv")
    (day.directory / "mailboxes.csv").write_text(to_csv([*IMPORTED, Promised("nowhere.example", "x")]))
    assert "not found" in machine.postroom(*command, "--dry-run", "--output=csv", code=2)
    (day.directory / "mailboxes.csv").write_text(to_csv(IMPORTED))
    (project,) = machine.rows("projects", "list")
    machine.postroom("projects", "set-quota", project["id"], QUOTA)
    wanted = {
        "mailboxes": MAILBOXES,
        "aliases": sum(len(each.aliases) for each in IMPORTED),
        "forwardings": sum(len(each.forwardings) for each in IMPORTED),
        "existing": 0,
    }
    assert machine.rows(*command, "--dry-run") == [wanted]
    day.ledger.check(machine)

    with mailbox_counter(machine) as count:
        assert count() == 0  # connects, so that the next call is soon enough
        with subprocess.Popen(
            [machine.installation.postroom, *map(str, command)],
            env=clean_environment(**machine.variables),
            stderr=subprocess.PIPE,
            text=True,
        ) as importing:
            try:
                block_until(lambda: importing.poll() is not None or count() >= SOME)
                importing.send_signal(signal.SIGINT)
                _, errors = importing.communicate(timeout=STOP_SECONDS)
            finally:
                importing.kill()  # does nothing to one that has exited
    assert (importing.returncode, errors) == (130, "postroom: interrupted: run the same command again to resume\n")
    (counts,) = machine.rows(*command)
    assert SOME <= counts["existing"] < MAILBOXES
    assert counts["mailboxes"] + counts["existing"] == MAILBOXES
    day.ledger.add(*IMPORTED)
    day.ledger.check(machine)

    again = {"mailboxes": 0, "aliases": 0, "forwardings": 0, "existing": MAILBOXES}
    assert machine.rows(*command) == [again]
    day.ledger.check(machine)


def test_a_desired_state_is_applied_once(day: Day) -> None:
    machine, file = day.machine, day.directory / "mail.yaml"
    applied = Promised(DOMAINS[0], "applied", "yearly", ("help", "contact"), ("applied@elsewhere.example",))
    file.write_text(
        f"""
domains:
  - name: {DOMAINS[0]}
    mailboxes:
      - local_part: {applied.local_part}
        period: {applied.period}
        password_hash: "{applied.row["password_hash"]}"
        aliases: [help, contact]
        forwardings: [{applied.forwardings[0]}]
  - name: planned.example
"""
    )
    planned = machine.rows("plan", file, code=3)
    day.ledger.check(machine)
    assert len(planned) > 0
    machine.postroom("apply", file)
    day.ledger.add(applied)
    day.ledger.domains.add("planned.example")
    day.ledger.check(machine)
    assert machine.rows("plan", file) == []
    before = machine.postroom("audit", "--output=json")
    machine.postroom("apply", file)
    assert machine.postroom("audit", "--output=json") == before
    assert "applied" in machine.postroom("mailboxes", "search", "applied")


def test_a_backup_under_load_is_taken(day: Day) -> None:
    with under_load(day.machine, day.ledger, DOMAINS[0]) as load:
        day.at_backup = day.ledger.copy()
        day.engine.backup(day.machine)
        load.more()
    day.ledger.check(day.machine)


def test_after_a_kill_nothing_is_lost(day: Day) -> None:
    with under_load(day.machine, day.ledger, DOMAINS[1]) as load:
        day.machine.kill()
        day.machine.start(*UNITS)
        load.more()
    day.ledger.check(day.machine)
    day.machine.wait_until_well()


def test_a_restart_fails_no_call(day: Day) -> None:
    day.engine.restart(day.machine, day.ledger, DOMAINS[0])
    day.ledger.check(day.machine)


def test_the_backup_is_restored_in_a_new_place(day: Day) -> None:
    restored = day.new_machine("restored", day.engine.new_place())
    restored.keys.update(day.machine.keys)
    day.engine.restore(restored)
    try:
        restored.start(*UNITS)
        day.at_backup.check(restored, written_since=day.ledger)
        ledger = day.at_backup.copy()
        with under_load(restored, ledger, DOMAINS[0]):
            pass
        ledger.check(restored, written_since=day.ledger)
        restored.wait_until_well()
    finally:
        restored.kill()
    day.ledger.check(day.machine)


def test_the_first_schema_is_upgraded_with_its_rows(day: Day) -> None:
    machine = day.new_machine("first", day.engine.new_database())
    first = create_first_schema(machine.database_url)
    machine.keys["SCW_SECRET_KEY"] = first.secret
    assert "run `postroom migrate` first" in machine.refused("serve", code=1)
    assert "postroom migrate" in machine.doctor(code=1)["database"]["detail"]
    machine.postroom("migrate")
    unstarted = machine.doctor(code=1)
    assert {name for name, each in unstarted.items() if each["condition"] == "error"} == {
        "service",
        "gateway",
        "worker",
    }
    assert all(each["remedy"] for each in unstarted.values() if each["condition"] != "ok")
    try:
        machine.start(UNITS[0])
        day.names.publish(FIRST_DOMAIN, machine.postroom("domains", "show", FIRST_DOMAIN, "--zone"))
        machine.start(*UNITS[1:])
        machine.succeed_at_last("domains", "validate", FIRST_DOMAIN)
        first.ledger.check(machine)
        (key,) = machine.rows("keys", "list")
        machine.postroom("keys", "rotate", key["access_key"], "--grace=1h")
        machine.postroom("aliases", "create", f"m299@{FIRST_DOMAIN}", f"late@{FIRST_DOMAIN}")
        first.ledger.add(Promised(FIRST_DOMAIN, "m299", aliases=("late",)))
        first.ledger.check(machine)
        machine.wait_until_well()
    finally:
        machine.kill()


@pytest.mark.parametrize("problem", list(PROBLEMS))
def test_doctor_reports_what_is_wrong(day: Day, problem: str) -> None:
    injected = PROBLEMS[problem]
    with injected.inject(day) as variables:
        found = day.machine.doctor(code=injected.code, **variables)[injected.check]
        assert found["condition"] == ("error" if injected.code == FAULT else "warning")
        assert found["detail"]
        assert found["remedy"]
    day.machine.wait_until_well()


def test_nothing_is_lost_at_the_end_of_the_day(day: Day) -> None:
    day.ledger.check(day.machine)
    day.machine.stop(*reversed(UNITS))
