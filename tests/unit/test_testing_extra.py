"""The plugin of pytest and the stand-ins, where the extra `testing` is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import PATIENCE_S

WITHOUT_EXTRA = """
import sys
sys.modules["starlette"] = sys.modules["uvicorn"] = None
import pytest
from assistant_queue.errors import MissingExtra
code = pytest.main(["-q", "-p", "no:cacheprovider", "."])
try:
    from assistant_queue.testing import StandInProvider
except MissingExtra as error:
    print(error)
sys.exit(code)
"""

USERS_TEST = """
def test_the_plugin_is_there(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("assistant_queue")
"""


def test_a_suite_runs_beside_the_package_without_the_extra(tmp_path: Path) -> None:
    (tmp_path / "test_of_a_user.py").write_text(USERS_TEST)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "needs starlette, not installed: pip install 'assistant-queue[testing]'" in done.stdout
