"""Video files, read and written by PyAV."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from m2f_jax.cli.predicting.folder import digest_of_file
from m2f_jax.cli.predicting.frames import check_frame
from m2f_jax.files import replacing
from m2f_jax.images.opening import check_pixels, check_regular

CODECS = {"libx264": {"crf": "18"}, "mpeg4": {"q": "3"}}  # the first one that is there is used
ANNOTATED = "annotated.mp4"


class FileFrames:
    """The first video stream of a file; see `Frames`."""

    file_names: tuple[str, ...] = ()

    def __init__(self, path: Path, *, upright: bool):
        """Reads the file's head.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it isn't a video, or its frames are too large.
        """
        check_regular(str(path))
        self.path, self.upright = path, upright
        with self.opened() as (container, stream):
            packets = (packet for packet in container.demux(stream) if packet.size)
            self.count: int = stream.frames or sum(1 for _ in packets)  # not every kind says it
            self.rate = Fraction(stream.average_rate or 25)

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[Any, Any]]:
        """Yields the container and its video stream; turns what fails within into one error.

        Raises:
            ValueError: the file isn't a video, is damaged, or its frames are too large.
        """
        try:
            with av.open(str(self.path)) as container:
                kind = container.format.name
                if kind == "image2" or kind.endswith("_pipe"):
                    raise ValueError(
                        f"{self.path} is an image, not a video; segment it by itself (m2f predict "
                        "FILE), or name the folder of a video's frames"
                    )
                if not container.streams.video:
                    raise ValueError(f"{self.path} holds no video")
                stream = container.streams.video[0]
                check_pixels((stream.width, stream.height), str(self.path))
                stream.thread_type = "AUTO"
                yield container, stream
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.path} can't be read as a video ({error.strerror}); is it damaged? Convert "
                "it to mp4, or name a folder of its frames"
            ) from error

    def digest(self) -> str:
        """Returns a digest of the file's bytes."""
        return digest_of_file(self.path)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames, turned as the file says."""
        first = None
        with self.opened() as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                pixels = frame.to_ndarray(format="rgb24")
                if self.upright:
                    pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
                first = first or pixels.shape
                check_frame(pixels.shape, first, f"{self.path}: frame {number}")
                yield pixels
        if first is None:
            raise ValueError(f"{self.path} holds a video without frames")

    @contextlib.contextmanager
    def annotated(self, out: Path) -> Iterator["AnnotatedFile"]:
        """Opens annotated.mp4, which is there once it is complete.

        Raises:
            OSError: it can't be written.
        """
        path = out / ANNOTATED
        try:
            with replacing(path) as unfinished, AnnotatedFile(unfinished, self.rate) as file:
                yield file
        except av.error.FFmpegError as error:  # of writing; those of reading are ValueErrors
            raise OSError(error.errno, error.strerror, str(path)) from error


class AnnotatedFile:
    """An mp4 to write."""

    def __init__(self, path: Path, rate: Fraction):
        """Opens a file.

        Args:
            path: the file.
            rate: frames a second.
        """
        self.container: Any = av.open(str(path), "w", format="mp4")
        self.rate, self.stream = rate, None

    def __enter__(self) -> "AnnotatedFile":
        return self

    def write(self, picture: np.ndarray):
        """Adds a frame; codecs want even sides, so an odd one's last row or column is doubled."""
        height, width, _ = picture.shape
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.stream is None:
            codec = next(name for name in CODECS if name in av.codecs_available)
            self.stream = self.container.add_stream(codec, rate=self.rate, options=CODECS[codec])
            self.stream.height, self.stream.width, _ = even.shape
            self.stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self.container.mux(self.stream.encode(frame))

    def __exit__(self, kind: object, *_: object):
        if kind is None and self.stream is not None:
            self.container.mux(self.stream.encode())
        self.container.close()
