"""The settings as options of the commands: made from the settings' fields, never written out by hand."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import typer

from postroomd.settings import Settings, default_text, fields_of, flag, load_settings, variable

PANEL = "Settings"


def takes_settings(command: str, kind: type[Settings] = Settings) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command's function the settings that concern it as options, and the loaded settings as `settings`.

    The command raises BadSetting where one is wrong.
    """
    fields = [(name, kind.model_fields[name]) for name, _ in fields_of(command)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def invoke(**values: Any) -> Any:
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
        own = inspect.signature(function).parameters.values()
        parameters = [*(parameter for parameter in own if parameter.name != "settings"), *options]
        invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
        invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        invoke.__name__, invoke.__doc__ = function.__name__, function.__doc__
        return invoke

    return decorate


def _metavar(name: str, annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    for ending, metavar in (("_address", "HOST:PORT"), ("_url", "URL")):
        if name.endswith(ending):
            return metavar
    return {timedelta: "DURATION", float: "SECONDS", int: "N"}.get(annotation, "NAME")
