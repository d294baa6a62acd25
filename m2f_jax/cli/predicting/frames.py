"""The frames of a video in a folder, read one by one, and annotated ones written to another."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from m2f_jax.cli.predicting.folder import digest_of_file
from m2f_jax.files import replacing
from m2f_jax.images import image_suffixes, read_image


@runtime_checkable
class Annotated(Protocol):
    """Where annotated frames go, in their order."""

    def write(self, picture: np.ndarray, /):
        """Adds a frame, uint8 RGB."""
        ...


@runtime_checkable
class Frames(Protocol):
    """A video to read.

    Attributes:
        path: the file or folder.
        count: the number of frames, as far as it is known before they are decoded.
        file_names: the names of the frames' files; empty for a video file.
    """

    path: Path
    count: int
    file_names: tuple[str, ...]

    def digest(self) -> str:
        """Returns a digest of all frames' bytes."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames, uint8 RGB of one size.

        Raises:
            ValueError: one can't be read, or has another size than the first; it is named.
        """
        ...

    def annotated(self, out: Path) -> contextlib.AbstractContextManager[Annotated]:
        """Opens what annotated frames are written to, in a folder."""
        ...


class FolderFrames:
    """Image files in a folder, in the order of their names; see `Frames`."""

    def __init__(self, path: Path, *, upright: bool):
        """Looks for the images.

        Raises:
            ValueError: there are none.
        """
        suffixes = image_suffixes()
        files = sorted(x for x in path.iterdir() if x.suffix.lower() in suffixes and x.is_file())
        if not files:
            raise ValueError(
                f"{path} holds no images; name the folder with the frames of one video"
            )
        self.path, self.upright = path, upright
        self.file_names = tuple(file.name for file in files)
        self.count = len(files)

    def digest(self) -> str:
        """Returns a digest of all files' names and bytes."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.file_names:
            digest.update(f"{name}\0{digest_of_file(self.path / name)}".encode())
        return digest.hexdigest()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames."""
        first = None
        for name in self.file_names:
            pixels = read_image(self.path / name, upright=self.upright)
            first = first or pixels.shape
            check_frame(pixels.shape, first, str(self.path / name))
            yield pixels

    @contextlib.contextmanager
    def annotated(self, out: Path) -> Iterator["PictureFolder"]:
        """Opens the folder annotated/."""
        stems = Counter(Path(name).stem for name in self.file_names)
        names = (x if stems[Path(x).stem] > 1 else Path(x).stem for x in self.file_names)
        (out / "annotated").mkdir(exist_ok=True)
        yield PictureFolder(out / "annotated", (f"{name}.png" for name in names))


class PictureFolder:
    """A folder of annotated frames, as PNGs of the frames' names."""

    def __init__(self, folder: Path, names: Iterator[str]):
        """Takes a folder that exists, and the names of the frames' files."""
        self.folder, self.names = folder, names

    def write(self, picture: np.ndarray):
        """Writes the next frame."""
        with replacing(self.folder / next(self.names)) as unfinished:
            Image.fromarray(picture).save(unfinished, "PNG")


def check_frame(shape: tuple[int, ...], first: tuple[int, ...], name: str):
    """Refuses a frame of another size than the first.

    Raises:
        ValueError: naming the frame.
    """
    if shape != first:
        raise ValueError(
            f"{name} is {shape[0]} x {shape[1]} (height x width), and the video's first frame "
            f"{first[0]} x {first[1]}; the frames of a video have one size"
        )
