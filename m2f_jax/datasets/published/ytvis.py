"""YouTubeVIS, and other videos in its format: a JSON file, and a folder of frames per video."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.lists import ImageId, name_of_id
from m2f_jax.datasets.coco_format.tracks import VideoFile, read_video_file
from m2f_jax.labels import Label
from m2f_jax.sizes import Size

FRAMES_FOLDER = "JPEGImages"
EXPECTED = (
    "expected SPLIT.json or SPLIT/instances.json, and SPLIT/JPEGImages with a folder per video"
)


@dataclass(frozen=True)
class Video:
    """One video.

    Attributes:
        id: in the annotations.
        length: the number of frames.
        size: height and width of the frames.
        frames: their files; none where the annotations name none.
    """

    id: ImageId
    length: int
    size: Size
    frames: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The id as a file name; different ids have different names."""
        return name_of_id(self.id)

    @property
    def image(self) -> Path:
        """The folder of the first frame, for messages."""
        return self.frames[0].parent if self.frames else Path(self.name)


@dataclass(frozen=True, eq=False)
class YtvisDataset:
    """Videos with their ground truth, for `m2f_jax.eval.evaluate`.

    Attributes:
        annotations: the file.
        file: its content.
        images: the videos, in order of their ids.
    """

    annotations: Path
    file: VideoFile = field(repr=False)
    images: tuple[Video, ...] = field(repr=False)

    @property
    def task(self) -> Task:
        """The only task that videos are evaluated for."""
        return "instance"

    @property
    def categories(self) -> tuple[Label, ...]:
        """The categories of the file, in its order."""
        return self.file.categories

    @property
    def rules(self) -> Literal["youtubevis"]:
        """Track AP."""
        return "youtubevis"

    @property
    def title(self) -> str:
        """The annotation file."""
        return str(self.annotations)

    def files(self, index: int, task: Task) -> Sequence[Path]:
        """Returns the annotation file and the frames.

        Raises:
            ValueError: the annotations don't name the frames.
        """
        del task
        video = self.images[index]
        if not video.frames:
            raise ValueError(f"{self.annotations}: video {video.id!r} has no file_names")
        return self.annotations, *video.frames


def ytvis_dataset(
    source: Path, split: str = "valid", frames: Path | None = None, invalid: Invalid = "refuse"
) -> YtvisDataset:
    """Opens videos in YouTubeVIS's format; frames aren't looked at.

    Args:
        source: the annotation file, or a folder with one for each split.
        split: which one, where `source` is a folder.
        frames: the folder that `file_names` are relative to. None stands for NAME/JPEGImages
            beside NAME.json, and for JPEGImages beside instances.json.
        invalid: what becomes of objects that can't be used, see `read_video_file`.

    Raises:
        FileNotFoundError: the file or the folder of a split is missing.
        ValueError: as `read_video_file`.
    """
    annotations = source
    if source.is_dir():
        known = (source / f"{split}.json", source / split / "instances.json")
        annotations = next((path for path in known if path.is_file()), source)
        if annotations is source:
            inner = [*source.glob(f"*/{split}.json"), *source.glob(f"*/{split}/instances.json")]
            hint = (
                f"{inner[0].relative_to(source).parts[0]}/ has it, name that" if inner else EXPECTED
            )
            raise FileNotFoundError(f"{source} has no split {split!r} of YouTubeVIS; {hint}")
    file = read_video_file(annotations, invalid)
    if frames is None:
        beside = annotations.parent if annotations.stem == "instances" else None
        frames = (beside or annotations.with_suffix("")) / FRAMES_FOLDER
    videos = (
        Video(x.id, x.length, x.size, tuple(frames / name for name in x.file_names or ()))
        for x in sorted(file.videos, key=lambda video: video.id)
    )
    return YtvisDataset(annotations, file, tuple(videos))
