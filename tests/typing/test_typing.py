"""Type checkers accept right uses of the public API and reject wrong ones.

`right_uses.py` has no error; in `wrong_uses.py` exactly the marked lines have one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.docs.generated import ROOT

HERE = Path(__file__).parent
RIGHT = "right_uses.py"
WRONG = "wrong_uses.py"
CHECKERS_TIMEOUT_S = 220
"""Both checkers read the package and its dependencies anew. Chosen: a minute on a busy machine."""

Errors = set[tuple[str, int, str]]
"""File, line and message."""


def marked() -> set[int]:
    lines = (HERE / WRONG).read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}


def run(command: Iterable[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECKERS_TIMEOUT_S,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def errors_of_mypy(folder: Path) -> Errors:
    out = run(
        ["mypy", "--config-file=", "--strict", "--follow-imports=silent", "--no-error-summary",
         f"--cache-dir={folder}", str(HERE / RIGHT), str(HERE / WRONG)]
    )  # fmt: skip
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", out, re.MULTILINE)
    return {(Path(path).name, int(line), message) for path, line, message in found}


def errors_of_pyright(folder: Path) -> Errors:
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed: pip install 'assistant-queue[dev]'")
    project = folder / "pyrightconfig.json"
    settings = {
        "include": [str(HERE / RIGHT), str(HERE / WRONG)],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        # Rules of the stricter `basedpyright` alone, and findings that are no errors of types.
        "reportUnusedFunction": "none",
        "reportUnusedExpression": "none",
    }
    project.write_text(json.dumps(settings), encoding="utf-8")
    out = run(
        ["basedpyright", "--outputjson", f"--pythonpath={sys.executable}", "-p", str(project)]
    )
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"])
        for one in json.loads(out)["generalDiagnostics"]
        if one["severity"] == "error"
    }


@pytest.mark.timeout(CHECKERS_TIMEOUT_S + 10)
@pytest.mark.parametrize("errors_of", [errors_of_mypy, errors_of_pyright])
def test_right_uses_are_accepted_and_wrong_ones_rejected(
    errors_of: Callable[[Path], Errors], tmp_path: Path
) -> None:
    errors = errors_of(tmp_path)
    assert [error for error in errors if error[0] == RIGHT] == []
    assert len(marked()) >= 40
    wrong = {line for name, line, _ in errors if name == WRONG}
    assert wrong == marked(), sorted(error for error in errors if error[1] in wrong ^ marked())
