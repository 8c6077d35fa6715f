"""Many cases in one test, each of them named when it fails.

A test of pytest's costs 5 ms of CPU in collection and reports alone, which is more than a look at a
file. For cases without fixtures that change: the test's fixtures are the same for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def each(argument: str, values: Iterable[Any]) -> Callable[[Test], Callable[[], None]]:
    """Call a test with each value; the errors come together, each with the value it belongs to."""
    cases = list(values)
    assert cases, "a test without cases shows nothing"

    def decorate(test: Test) -> Callable[[], None]:
        def run() -> None:
            wrong = []
            for case in cases:
                try:
                    test(case)
                except Exception as error:
                    error.add_note(f"{argument}: {case}")
                    wrong.append((case, error))
            if wrong:
                names = ", ".join(str(case) for case, _ in wrong)
                message = f"{len(wrong)} of {len(cases)} cases: {names}"
                raise ExceptionGroup(message, [error for _, error in wrong])

        functools.update_wrapper(run, test)
        del run.__wrapped__  # type: ignore[attr-defined] - it has the argument
        return run

    return decorate
