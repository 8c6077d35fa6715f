"""Values that pass inside the package: dataclasses that only a type checker freezes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["valueclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as valueclass
else:
    from dataclasses import dataclass, fields

    Made = TypeVar("Made")

    def valueclass(*, frozen: bool, **options: Any) -> Any:
        """Make a dataclass of these options, frozen for the type checker alone.

        At run time a frozen instance takes three times as long to make, and a batch makes some
        sixty; a frozen class takes twice as long, and a process makes a hundred before it can do
        anything. What users get is frozen there, too.
        """
        del frozen

        def make(values: type[Made]) -> type[Made]:
            made = dataclass(**options)(values)
            made.__hash__ = _hash
            return made

        return make

    def _hash(self: Any) -> int:
        return hash(tuple(getattr(self, one.name) for one in fields(self)))
