"""Numbers and pictures of a training run for TensorBoard.

They are written at once: tensorboardX's own writer has a thread, which waits forever once the disk
is full.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import image, scalar

from m2f_jax.files import naming

proto: Any = event_pb2  # its classes are made when it is imported


class TensorBoard:
    """A file of events in a folder; `OSError`s name the folder."""

    def __init__(self, folder: Path, step: int):
        """Begins a file after `step`; TensorBoard hides what other files say of later steps."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"), f".{step}")
        start = proto.SessionLog(status=proto.SessionLog.START)
        self.add(proto.Event(step=step + 1, session_log=start))

    def add(self, *events: Any):
        """Writes events."""
        with naming(self.folder):
            for event in events:
                event.wall_time = time.time()
                self.writer.write_event(event)
            self.writer.flush()

    def add_numbers(self, step: int, values: Mapping[str, float]):
        """Writes the numbers of a step."""
        self.add(*(proto.Event(step=step, summary=scalar(name, x)) for name, x in values.items()))

    def add_picture(self, step: int, name: str, picture: np.ndarray):
        """Writes a picture, uint8 RGB [height, width, 3]."""
        self.add(proto.Event(step=step, summary=image(name, picture, dataformats="HWC")))

    def close(self):
        """Closes the file."""
        with naming(self.folder):
            self.writer.close()
