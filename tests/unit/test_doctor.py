"""The findings of `postroom doctor` on processes, clock, backlog and certificates."""

from datetime import timedelta
from pathlib import Path

import pytest

from postroomd.domain.clock_leaps import WorkerClock
from postroomd.domain.diagnosis import Condition, Finding, worst
from postroomd.runtime.doctor.processes import check_backlog, check_certificates, check_worker
from postroomd.settings import load_settings
from postroomd.storage.drivers import sqlite_diagnosis
from postroomd.storage.protocols.clocks import ClockRecords
from postroomd.storage.protocols.work import Due
from postroomd.tls import load
from postroomd.tls.files import PemFiles
from tests.support.certificates import Authority
from tests.support.factories import NOW


def test_the_worst_condition_decides() -> None:
    def finding(condition: Condition) -> Finding:
        return Finding(check="a", condition=condition, detail="")

    assert worst([]) is Condition.OK
    assert worst([finding(Condition.WARNING), finding(Condition.OK)]) is Condition.WARNING
    assert worst([finding(Condition.ERROR), finding(Condition.WARNING)]) is Condition.ERROR


@pytest.mark.parametrize(
    ("age", "condition"), [(None, Condition.ERROR), (10, Condition.OK), (60, Condition.OK), (61, Condition.ERROR)]
)
def test_a_worker_lives_whose_heartbeat_is_young(age: int | None, condition: Condition) -> None:
    beats = [] if age is None else [WorkerClock("boot", NOW - timedelta(seconds=age), None, None, 0)]
    assert check_worker(ClockRecords(beats, None, None), NOW).condition is condition


@pytest.mark.parametrize(
    ("due", "condition"),
    [
        (Due(None, None), Condition.OK),
        (Due(NOW + timedelta(days=1), NOW - timedelta(minutes=10)), Condition.OK),
        (Due(NOW - timedelta(minutes=11), None), Condition.WARNING),
    ],
)
def test_work_that_is_long_overdue_is_a_warning(due: Due, condition: Condition) -> None:
    assert check_backlog(due, NOW).condition is condition


def test_the_expiry_of_each_certificate_is_checked(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("service", "localhost")
    settings = load_settings({"tls_cert": str(files.cert), "tls_key": str(files.key)})
    expires_at = load(PemFiles(files.cert)).expires_at
    assert expires_at is not None
    for before, condition in ((15, Condition.OK), (13, Condition.WARNING), (0, Condition.ERROR)):
        (finding,) = check_certificates(settings, expires_at - timedelta(days=before))
        assert (finding.check, finding.condition) == ("grpc certificate", condition)
    Path(str(files.cert)).unlink()
    (finding,) = check_certificates(settings, NOW)
    assert finding.condition is Condition.ERROR
    assert str(files.cert) in finding.detail


def test_the_library_and_the_file_of_sqlite_are_judged() -> None:
    conditions = [sqlite_diagnosis._version(version).condition for version in ((3, 34, 9), (3, 40, 1), (3, 51, 3))]
    assert conditions == [Condition.ERROR, Condition.OK, Condition.OK]
    assert sqlite_diagnosis._journal_mode("delete").condition is Condition.ERROR
    assert sqlite_diagnosis._log_size(300_000_000).condition is Condition.WARNING


@pytest.mark.parametrize(
    ("mode", "condition"),
    [
        (0o600, Condition.OK),
        (0o640, Condition.OK),
        (0o660, Condition.WARNING),
        (0o644, Condition.WARNING),
        (0o602, Condition.WARNING),
    ],
)
def test_the_mode_of_the_file_of_sqlite_is_judged(tmp_path: Path, mode: int, condition: Condition) -> None:
    path = tmp_path / "postroom.db"
    path.touch()
    path.chmod(mode)
    finding = sqlite_diagnosis.diagnose_mode(path)
    assert finding.condition is condition
    assert f"{mode:04o}" in finding.detail
    assert bool(finding.remedy) is (condition is Condition.WARNING)
