"""The configuration: its keys, their rules, and the file that holds them."""

from nuage_appliance.config.file import load, managed_settings, parse
from nuage_appliance.config.keys import KEYS, Config, Key, Reload, Section
from nuage_appliance.config.rules import ConfigError

__all__ = [
    "KEYS",
    "Config",
    "ConfigError",
    "Key",
    "Reload",
    "Section",
    "load",
    "managed_settings",
    "parse",
]
