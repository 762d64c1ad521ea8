"""The settings of the logs."""

from typing import Literal

from postroomd.settings.base import ALL, SettingsGroup, setting


class LogSettings(SettingsGroup):
    """The settings of the logs."""

    log_level: Literal["debug", "info", "warning", "error"] = setting("info", ALL, "Minimum level of log lines.")
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", ALL, "`json`: one object per line; `console`: text; `auto`: console on a terminal, else json."
    )
