"""Settings from command-line flags and environment variables, and how these are named and documented."""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from postroomd.durations import format_duration
from postroomd.settings.base import PREFIX, flag
from postroomd.settings.combined import Settings, UpSettings


class InvalidSetting(ValueError):
    """A setting or argument is invalid. The text names its flag or variable and never contains its value."""


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper()


def fields_of(command: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield name and field of the settings that a command has as flags."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and command in (extra["commands"] or ()):  # type: ignore[operator]
            yield name, field


def default_text(field: FieldInfo) -> str:
    """Return the default of a setting as it is written on the command line."""
    match field.default:
        case None:
            return "none"
        case timedelta() as duration:
            return format_duration(duration)
        case SecretStr() as secret:  # a default is not secret
            return secret.get_secret_value()
        case float() as number:
            return f"{number:g}"
        case other:
            return str(other)


def load_settings(flags: Mapping[str, str | None], kind: type[Settings] = Settings) -> Settings:
    """Return the settings from flags, then environment, then defaults.

    Raises InvalidSetting, which names each invalid setting.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return kind(**given)  # type: ignore[arg-type] # strings, parsed by the validators
    except ValidationError as error:
        faults = [
            _prefix(fault["loc"], given) + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    # Outside the handler, so that the dropped error, which holds the values, is not its context.
    raise InvalidSetting("; ".join(faults))


def _prefix(location: tuple[int | str, ...], given: Collection[str]) -> str:
    """Return the name of an invalid setting as the operator wrote it; empty for a fault that concerns several."""
    if not location:
        return ""
    name = str(location[0])
    return f"{flag(name) if name in given else variable(name)}: "


def markdown_table() -> str:
    """Return the settings as the table in the README."""
    rows = ["| flag | variable | default | description |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{default_text(field) or 'none'}`"
        if (up_default := default_text(UpSettings.model_fields[name])) != default_text(field):
            default += f" (`up`: `{up_default}`)"
        rows.append(f"| `{flag(name)}` | `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
