"""What gradio's client sends ahead of a request: kept in memory, and taken out by the request."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Uploads:
    """Files by the name that the client was told; no name leads to a file on the disk.

    Attributes:
        folder: what names begin with, which gradio wants to be its own; nothing is written there.
        most: how many there may be; the oldest go first.
        seconds: how long one is kept that nobody asks for.
        clock: tells the time, in seconds.
    """

    folder: str
    most: int = 32
    seconds: float = 600.0
    clock: Callable[[], float] = time.monotonic
    files: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    def add(self, name: str, data: bytes) -> str:
        """Keeps a file, and returns the name by which it is taken."""
        self.forget()
        key = f"{self.folder}/{secrets.token_urlsafe(16)}/{name.replace('/', '_')}"
        self.files[key] = self.clock(), data
        return key

    def take(self, key: object) -> tuple[str, bytes]:
        """Returns the name and the contents of a file, which is forgotten.

        Raises:
            ValueError: there is no such upload.
        """
        found = self.files.pop(key, None) if isinstance(key, str) else None
        if found is None:
            raise ValueError(
                "the picture must be uploaded with the request, as gradio_client.handle_file does; "
                "paths and addresses aren't read, and an upload is good for one request"
            )
        return str(key).rpartition("/")[2], found[1]

    def forget(self):
        """Drops what is old, or too much with one more."""
        oldest = self.clock() - self.seconds
        kept = [(key, file) for key, file in self.files.items() if file[0] >= oldest]
        self.files = dict(kept[max(0, len(kept) - self.most + 1) :])
