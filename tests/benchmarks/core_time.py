"""The kernel's own account of a process: how long it ran, and how long it waited for a core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Milliseconds of the main threads of some processes.

    Attributes:
        ran: Time on a core.
        queued: Time ready to run, while other processes had the cores.
    """

    ran: float
    queued: float


class CoreClock:
    """Reads the accounts of processes that answer a request one after the other.

    What they waited for a core, in sum, is what other work on the machine added to the request.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        """All times are 0 if the kernel keeps no such account."""
        self._accounts: Sequence[Path] = [
            path for pid in pids if (path := Path(f"/proc/{pid}/task/{pid}/schedstat")).exists()
        ]

    def read(self) -> CoreTime:
        """Return the times since the processes started."""
        found = [path.read_text().split() for path in self._accounts]
        return CoreTime(
            sum(int(ran) for ran, _, _ in found) / 1e6,
            sum(int(queued) for _, queued, _ in found) / 1e6,
        )
