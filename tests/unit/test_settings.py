"""Settings: flags and variables become one frozen object; an invalid one is one line."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from postroomd.durations import format_duration, parse_duration
from postroomd.runtime.supervisor import with_gateway_secret
from postroomd.settings import (
    InvalidSetting,
    Settings,
    UpSettings,
    default_text,
    fields_of,
    flag,
    load_settings,
    variable,
)


@pytest.fixture(autouse=True)
def _unset_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_a_flag_precedes_a_variable_and_a_variable_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).mailbox_quota == 1_000
    monkeypatch.setenv("POSTROOM_MAILBOX_QUOTA", "5")
    assert load_settings({"mailbox_quota": None}).mailbox_quota == 5
    assert load_settings({"mailbox_quota": "7"}).mailbox_quota == 7


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_HTTP_ADDRESS", "")
    assert load_settings({}).http_address == "127.0.0.1:8080"


def test_every_default_can_be_written_as_text() -> None:
    defaults = Settings()
    texts = {name: default_text(field) for name, field in Settings.model_fields.items() if field.default is not None}
    assert load_settings(texts) == defaults


def test_only_up_trusts_dns_records_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({}).domain_validation == "dns"
    assert load_settings({}, UpSettings).domain_validation == "trust"
    monkeypatch.setenv("POSTROOM_DOMAIN_VALIDATION", "dns")
    assert load_settings({}, UpSettings).domain_validation == "dns"


@pytest.mark.parametrize(("text", "label"), [("", ""), ("@", ""), ("_Proof", "_proof")])
def test_the_validation_label_may_be_empty_for_the_domain_itself(text: str, label: str) -> None:
    assert load_settings({"domain_validation_label": text}).domain_validation_label == label


def test_the_retentions_are_set_separately() -> None:
    policy = load_settings({"deletion_retention": "10m", "cancellation_retention": "30d"}).lifecycle_policy()
    assert (policy.deletion_retention, policy.cancellation_retention) == (timedelta(minutes=10), timedelta(days=30))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().mailbox_quota = 5


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("15m", timedelta(minutes=15)),
        ("90s", timedelta(seconds=90)),
        ("90", timedelta(seconds=90)),
    ],
)
def test_a_duration_is_parsed_and_formatted(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "d", "-1", "1.5h", "1w", "1d12h", "٣d", "9999999999"])
def test_an_invalid_duration_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("grpc_address", address)
            for address in (
                "",
                "localhost",
                ":80",
                "::1:80",
                "[::2]",
                "[x]:80",
                "a:65536",
                "a:-1",
                "a b:1",
                "http://a:1",
            )
        ),
        *(
            ("database_url", url)
            for url in (
                "p.db",
                "sqlite:///x.db",
                "sqlite+aiosqlite://",
                "sqlite+aiosqlite:///",
                "sqlite+aiosqlite:///:memory:",
                "sqlite+aiosqlite:///directory/",
                "sqlite+aiosqlite:///x.db?mode=ro",
            )
        ),
        ("domain_validation", "yes"),
        ("mailbox_quota", "-1"),
        ("mailbox_quota", "many"),
        ("deletion_retention", "0"),
        ("deletion_retention", "3651d"),
        ("cancellation_retention", "0"),
        ("domain_validation_label", "a b"),
        ("domain_validation_label", f"{'a' * 64}"),
        ("domain_validation_prefix", "a b"),
        ("domain_validation_prefix", "a" * 65),
        ("spf_policy", "none"),
        ("dkim_bits", "4096"),
        ("key_cache_seconds", "5.1"),
        ("key_cache_seconds", "nan"),
        ("hash_wait_seconds", "-1"),
        ("argon2_memory_kib", "7"),
        ("mx_host", "mail example"),
        ("mx_host", "-mx.example.org"),
        ("mx_host", f"{'a' * 64}.example.org"),
        ("dkim_selector", ""),
        ("max_body_bytes", "4194305"),
        ("call_timeout_seconds", "0"),
        ("call_timeout_seconds", "inf"),
        ("cors_origins", "*"),
        ("cors_origins", "https://app.example.org/path"),
        ("cors_origins", "www.example.org"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("trusted_proxies", "proxy.example.org"),
        ("log_level", "loud"),
    ],
)
def test_an_invalid_value_is_one_line_that_does_not_repeat_it(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSetting) as by_flag:
        load_settings({name: text})
    line = str(by_flag.value)
    assert line.startswith(f"{flag(name)}: ")
    assert "\n" not in line
    if len(text) > 3 and not "sqlite+aiosqlite:///".startswith(text):
        assert text not in line
    assert by_flag.value.__cause__ is by_flag.value.__context__ is None
    if text:
        monkeypatch.setenv(variable(name), text)
        with pytest.raises(InvalidSetting, match=f"^{variable(name)}: "):
            load_settings({})


def test_every_invalid_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_LOG_LEVEL", "loud")
    with pytest.raises(InvalidSetting, match=r"--hash-wait-seconds: .*; POSTROOM_LOG_LEVEL: .*"):
        load_settings({"hash_wait_seconds": "-0.1"})


def test_argon2_needs_memory_for_its_lanes() -> None:
    with pytest.raises(InvalidSetting, match="--argon2-parallelism: Argon2 needs at least 8 KiB"):
        load_settings({"argon2_memory_kib": "16", "argon2_parallelism": "3"})


def test_host_names_are_canonical() -> None:
    assert load_settings({"mx_host": "MX.Example.ORG."}).mx_host == "mx.example.org"


def test_lists_of_origins_and_networks_are_canonical() -> None:
    settings = load_settings(
        {"cors_origins": "https://App.example.org, http://localhost:3000", "trusted_proxies": "10.0.0.0/8, ::1"}
    )
    assert settings.cors_origins == "https://app.example.org,http://localhost:3000"
    assert settings.trusted_proxies == "10.0.0.0/8,::1/128"


def test_the_repr_does_not_contain_the_database_password() -> None:
    settings = load_settings({"database_url": "postgresql+asyncpg://user:hunter2@host/name"})
    assert "hunter2" not in repr(settings)
    assert not settings.is_sqlite


@pytest.mark.parametrize(("url", "path"), [("data/p.db", "data/p.db"), ("/var/p.db", "/var/p.db")])
def test_the_database_path_is_relative_or_absolute(url: str, path: str) -> None:
    settings = load_settings({"database_url": f"sqlite+aiosqlite:///{url}"})
    assert settings.is_sqlite
    assert settings.database_path == Path(path)


def test_every_setting_has_a_description_and_is_a_flag() -> None:
    flags = {name for command in ("up", "serve", "gateway") for name, _ in fields_of(command)}
    assert flags == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
    assert "database_url" not in dict(fields_of("gateway"))


def test_up_generates_a_gateway_secret_unless_one_is_configured() -> None:
    settings = UpSettings()
    generated = [with_gateway_secret(settings).gateway_secret for _ in range(2)]
    assert len({secret.get_secret_value() for secret in generated if secret}) == 2

    configured = UpSettings(gateway_secret=SecretStr("a secret of several gateways"))
    assert with_gateway_secret(configured) is configured


def test_history_is_retained_at_least_for_the_address_quarantine() -> None:
    assert load_settings({}).history_retention == timedelta(days=400)
    assert load_settings({"address_quarantine": "400d"}).history_retention == timedelta(days=400)
    with pytest.raises(InvalidSetting, match="--history-retention: must be at least --address-quarantine") as caught:
        load_settings({"address_quarantine": "31d", "history_retention": "30d"})
    assert "raise it, or shorten the quarantine" in str(caught.value)
    with pytest.raises(InvalidSetting, match="POSTROOM_HISTORY_RETENTION: must be at least"):
        load_settings({"address_quarantine": "401d"})
