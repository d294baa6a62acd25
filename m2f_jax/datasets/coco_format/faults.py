"""Faulty entries of a file, which are refused together, or left out and counted."""

import logging
from collections import Counter
from typing import Literal

Invalid = Literal["refuse", "skip"]
"""Whether entries that can't be used are refused, with the file, or left out."""

SHOWN = 10  # faulty entries in one message
LONGEST = 150  # characters of each

logger = logging.getLogger("m2f_jax")


class EntryError(ValueError):
    """A fault of one entry.

    Attributes:
        kind: its kind, by which faults are counted, such as "unknown category".
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Faults:
    """The faulty entries of a file."""

    def __init__(self, where: str, remedy: str):
        """Makes an empty list of faults.

        Args:
            where: the file, for messages.
            remedy: what to do about the entries.
        """
        self.where, self.remedy = where, remedy
        self.found: list[tuple[str, EntryError]] = []

    def __len__(self) -> int:
        return len(self.found)

    def add(self, entry: str, fault: EntryError):
        """Adds a fault of an entry."""
        self.found.append((entry, fault))

    def refuse(self):
        """Refuses the file if there are faults.

        Raises:
            ValueError: the message has the first faults, and the number of each kind.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            [(entry, fault)] = self.found
            raise ValueError(f"{self.where}: {entry}: {fault}; {self.remedy}")
        lines = [f"{f'{entry}: {fault}':.{LONGEST}}" for entry, fault in self.found[:SHOWN]]
        if len(self.found) > SHOWN:
            lines.append(f"and {len(self.found) - SHOWN} more")
        listed = "\n  ".join(lines)
        raise ValueError(
            f"{self.where}: {len(self.found)} entries can't be used ({self.by_kind()}); "
            f"{self.remedy}:\n  {listed}"
        )

    def skip(self):
        """Logs how many entries of each kind are left out, and the first one."""
        if self.found:
            entry, fault = self.found[0]
            logger.warning(
                "%s: left out are %s; the first one is %s: %s",
                *(self.where, self.by_kind(), entry, fault),
            )

    def by_kind(self) -> str:
        """Returns the number of faults of each kind as text, the most frequent first."""
        kinds = Counter(fault.kind for _, fault in self.found)
        return ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
