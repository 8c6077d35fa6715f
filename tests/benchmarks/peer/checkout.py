"""A checkout of the TypeScript library that the reader has built."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = "https://github.com/neimadVN/open-ai-message-bullmq"
COMMIT = "da37e42"
"""The commit that was measured."""
BUILD = f"""git clone {REPOSITORY} peer
cd peer
git checkout {COMMIT}
npm ci
npm run build"""
_BUILT = ("dist/index.js", "node_modules/bullmq", "node_modules/openai")


class Unusable(Exception):
    """No built checkout, or no Node.js: nothing is measured."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A built checkout, and the `node` that runs it."""

    path: Path
    node: str

    @classmethod
    def find(cls, path: Path) -> Checkout:
        """Check that it can be run.

        Raises:
            Unusable: It is not built, or there is no Node.js.
        """
        missing = [part for part in _BUILT if not (path / part).exists()]
        if missing:
            raise Unusable(
                f"Not a built checkout: {path} has no {', '.join(missing)}; build it with:\n{BUILD}"
            )
        node = shutil.which("node")
        if node is None:
            raise Unusable("No node on the PATH: install Node.js 20 or later")
        return cls(path.resolve(), node)

    def versions(self) -> str:
        """The commit, if git is there to tell, and the version of Node.js."""
        node = _first_line([self.node, "--version"])
        commit = _first_line(["git", "-C", str(self.path), "rev-parse", "--short=7", "HEAD"])
        other = f" (measured before: {COMMIT})" if commit and commit != COMMIT else ""
        return f"peer {commit or 'of an unknown commit'}{other}, Node.js {node}"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
