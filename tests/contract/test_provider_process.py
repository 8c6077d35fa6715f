"""The stand-in in a separate process: where it is, what its model says, and what it says when that cannot be had."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import PATIENCE_S, free_port

MODEL = """
from assistant_queue.testing.provider import Reply, ToolCalls

def answer(turn):
    return Reply(f"{len(turn.user_texts)} texts, {turn.protocol}")

not_a_function = 7
"""


def line(*words: str) -> list[str]:
    return [sys.executable, "-m", "assistant_queue.testing.provider", *words]


@contextmanager
def standing(directory: Path, *words: str) -> Iterator[dict[str, Any]]:
    """The process; what its first line says."""
    with subprocess.Popen(
        line(*words), cwd=directory, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "mymodel.py").write_text(MODEL)
    return tmp_path


def test_a_model_script_a_port_and_a_key_can_be_given(directory: Path) -> None:
    port = free_port()
    words = (
        "--port",
        str(port),
        "--api-key",
        "sk-test",
        "--model",
        "mymodel:answer",
        "--latency",
        "0",
    )
    for _ in range(2):  # started anew it is the same server to a bot
        with standing(directory, *words) as where:
            assert (where["base_url"], where["api_key"]) == (
                f"http://127.0.0.1:{port}/v1",
                "sk-test",
            )
            with openai.OpenAI(base_url=where["base_url"], api_key="sk-test") as client:
                assert (
                    client.responses.create(model="m", input="hello").output_text
                    == "1 texts, responses"
                )


def test_without_a_script_it_repeats_what_it_is_asked(directory: Path) -> None:
    with (
        standing(directory, "--latency", "0") as where,
        openai.OpenAI(base_url=where["base_url"], api_key=where["api_key"]) as client,
    ):
        assert client.responses.create(model="m", input="hello").output_text == "You said: hello"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("mymodel", "expected module:function"),
        ("mymodel:nothing", "mymodel has no function nothing"),
        ("mymodel:not_a_function", "mymodel has no function not_a_function"),
        ("no_such_module:answer", "its module cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_script_that_cannot_be_had_is_one_line(directory: Path, model: str, says: str) -> None:
    done = subprocess.run(
        line("--model", model),
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
