"""Files that gradio's client uploads before its request, which are kept in memory."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Uploads:
    """Uploaded files, each under a name that the client was told; none is on the disk.

    Attributes:
        folder: what the names begin with. Gradio wants its own folder there; nothing is written
            to it.
        most: how many files are kept; the oldest go first.
        seconds: how long a file is kept that no request takes.
        clock: returns the time in seconds.
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
        """Returns the name and the contents of a file, and drops it.

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
        """Drops old files, and the oldest ones where there is no room for another."""
        oldest = self.clock() - self.seconds
        kept = [(key, file) for key, file in self.files.items() if file[0] >= oldest]
        self.files = dict(kept[max(0, len(kept) - self.most + 1) :])
