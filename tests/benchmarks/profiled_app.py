"""The app of a worker process that samples itself: stacks every few ms of its CPU time.

SIGUSR1 begins, SIGUSR2 ends and writes the counts to the file named in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import FrameType

from tests.benchmarks import SAMPLES
from tests.benchmarks.app import queue

__all__ = ["queue"]

EVERY_S = 0.002
_STANDARD = sysconfig.get_paths()["stdlib"]
_OURS = str(Path(sys.modules["assistant_queue"].__file__ or "").parent)
_libraries: Counter[str] = Counter()
_modules: Counter[str] = Counter()
_RESTING = ("select", "wait", "_wait_for_tstate_lock", "poll")


def _library(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    if path.startswith(_OURS):
        return "assistant_queue"
    if "site-packages" in path:
        return path.split("site-packages/", 1)[1].split("/", 1)[0].removesuffix(".py")
    if path.startswith(_STANDARD):
        return path[len(_STANDARD) + 1 :].split("/", 1)[0].removesuffix(".py")
    return path


def _module(frame: FrameType | None) -> str:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return frame.f_code.co_filename[len(_OURS) + 1 :].removesuffix(".py")
        frame = frame.f_back
    return "(the event loop)"


def _sample(_: int, frame: FrameType | None) -> None:
    # The handler runs on the main thread; if that rests, another thread used the CPU.
    if frame is not None and frame.f_code.co_name in _RESTING:
        here = frame
        frame = next(
            (
                other
                for other in sys._current_frames().values()
                if other is not here and other.f_code.co_name not in _RESTING
            ),
            frame,
        )
    if frame is not None:
        _libraries[_library(frame)] += 1
        _modules[_module(frame)] += 1


def _begin(_: int, __: FrameType | None) -> None:
    _libraries.clear()
    _modules.clear()
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)


def _end(_: int, __: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    text = json.dumps({"libraries": _libraries, "modules": _modules})
    target = Path(os.environ[SAMPLES])
    target.with_suffix(".part").write_text(text)
    target.with_suffix(".part").rename(target)


signal.signal(signal.SIGPROF, _sample)
signal.signal(signal.SIGUSR1, _begin)
signal.signal(signal.SIGUSR2, _end)
