"""Options that commands share: the settings, generated from their fields, and the options of new keys."""

import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from postroomd.cli.running import begin
from postroomd.durations import parse_duration
from postroomd.settings import InvalidSetting, Settings, default_text, fields_of, flag, load_settings, variable

PANEL = "Settings"
CONTEXT = "command_context"  # the parameter that typer passes the context of the command by
MAX_KEY_LIFETIME = timedelta(days=36_500)

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Do not permit changes with the key.")]
ExpiresIn = Annotated[
    str | None,
    typer.Option(
        "--expires-in", metavar="DURATION", help="Lifetime of the key: 30d, 12h, or seconds; unlimited if not set."
    ),
]

Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, show_default=False, help="List at most N; all if not set.")
]
ProjectId = Annotated[
    str, typer.Option("--project-id", metavar="ID", show_default=False, help="The project; the key's own if not set.")
]


Etag = Annotated[
    str,
    typer.Option(
        "--etag", metavar="ETAG", show_default=False, help="Change it only if this is its etag, as `show` prints it."
    ),
]
AllOrganizations = Annotated[
    bool, typer.Option("--all-organizations", help="Search every organization, as the operator.")
]
OrganizationId = Annotated[
    str,
    typer.Option(
        "--organization-id", metavar="ID", show_default=False, help="Search this organization, as the operator."
    ),
]


def expiry(expires_in: str | None, now: datetime) -> datetime | None:
    """Return when a new key expires; None for never. Raises InvalidSetting."""
    if expires_in is None:
        return None
    try:
        lifetime = parse_duration(expires_in)
    except ValueError as error:
        raise InvalidSetting(f"--expires-in: {error}") from error
    if not timedelta(0) < lifetime <= MAX_KEY_LIFETIME:
        raise InvalidSetting(f"--expires-in: expected more than 0 and at most {MAX_KEY_LIFETIME.days}d")
    return now + lifetime


def with_settings(command: str, kind: type[Settings] = Settings) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the settings of a command to its options, and pass them to its function as `settings`.

    The command raises InvalidSetting if one is invalid.
    """
    fields = [(name, kind.model_fields[name]) for name, _ in fields_of(command)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def invoke(**values: Any) -> Any:
            begin(command, _written(values.pop(CONTEXT)))
            flags = {name: values.pop(name) for name, _ in fields}
            return function(settings=load_settings(flags, kind), **values)

        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=str | None,
                default=typer.Option(
                    None,
                    flag(name),
                    metavar=_metavar(name, field.annotation),
                    help=f"{field.description} ({variable(name)}; {default_text(field)})",
                    show_default=False,
                    rich_help_panel=PANEL,
                ),
            )
            for name, field in fields
        ]
        arguments = inspect.signature(function).parameters.values()
        context = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        own = (parameter for parameter in arguments if parameter.name != "settings")
        parameters = [context, *own, *options]
        invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by typer
        invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        invoke.__name__, invoke.__doc__ = function.__name__, function.__doc__
        return invoke

    return decorate


def _written(context: typer.Context) -> dict[str, str]:
    """Return the options and arguments of a command by name, as they are written."""
    return {
        str(parameter.name): parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.metavar)
        for parameter in context.command.params
    }


def _metavar(name: str, annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    for suffix, metavar in (("_address", "HOST:PORT"), ("_url", "URL")):
        if name.endswith(suffix):
            return metavar
    return {timedelta: "DURATION", float: "SECONDS", int: "N"}.get(annotation, "NAME")
