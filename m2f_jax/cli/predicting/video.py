"""`m2f predict --video`: segments a video clip by clip, and writes and draws its tracks."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from m2f_jax.cli.arguments import Predict
from m2f_jax.cli.environment.dtype import dtype_of
from m2f_jax.cli.predicting.folder import FORMAT, categories, check_settings, holding_folder
from m2f_jax.cli.predicting.frames import FolderFrames, Frames
from m2f_jax.cli.predicting.layout import RUN_FILE
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.files import read_json, write_json
from m2f_jax.inference.clips import Clip, ClipInstances, JoinedTrack, TrackJoiner, clips_of
from m2f_jax.labels import Label
from m2f_jax.plain import from_plain, to_plain
from m2f_jax.visualization.color import VIVID_COLORS
from m2f_jax.visualization.drawing import draw_instances

RESULTS = "predictions.json"
FOR_IMAGES = (
    "task",
    "boxes",
    "annotations",
    "batch_size",
    "tile",
    "overlap",
    "ray",
    "actors",
    "parquet",
)


def run_video(command: Predict, video: str, console: Console) -> int:
    """Segments a video; returns 0.

    Raises:
        FileExistsError: the output folder holds something else, or results of other settings.
        ValueError: the video or the model can't be used, or an option is for images.
    """
    check_options(command)
    frames = open_frames(Path(video), upright=not command.ignore_exif)
    out = Path(command.out)
    segmenter, settings = open_model(command)
    settings["video"] = frames.digest()
    with holding_folder(out, overwrite=command.overwrite):
        open_folder(out, settings, {"model": command.model, "video": video}, command.overwrite)
        fill_folder(command, video, frames, segmenter, settings, console)
    return 0


def fill_folder(
    command: Predict,
    video: str,
    frames: Frames,
    segmenter: Any,
    settings: Mapping[str, Any],
    console: Console,
):
    """Segments a video into an output folder that is held, unless its results are there."""
    out, name = Path(command.out), Path(video).resolve().stem
    labels: tuple[Label, ...] = segmenter.config.labels
    if (out / RESULTS).exists():
        console.print(f"{video} is done already; results are in {out}")
        return
    write_json(out / "categories.json", categories(labels))
    joiner, done, clips, height, width = TrackJoiner(), 0, 0, 0, 0
    with (
        ImageProgress("segmenting", frames.count, console, "frame") as progress,
        frames.annotated(out) as annotated,
    ):
        for clip in clips_of(frames, command.clip_length, command.clip_overlap):
            found = found_in(out, clip, segmenter, settings)
            places = joiner.add(clip, found)
            height, width = found.size
            for t in range(clip.shared, len(clip.frames)):
                shown, which = found.frame(t)
                colors = VIVID_COLORS[[places[i] % len(VIVID_COLORS) for i in which]]
                names = [label.name for label in labels]
                annotated.write(draw_instances(clip.frames[t], shown, names, colors=colors))
            progress.advance(len(clip.frames) - clip.shared)
            done, clips = clip.start + len(clip.frames), clips + 1
    write_results(out, name, frames, joiner.tracks, labels, (done, height, width))
    if done < frames.count:
        console.print(
            f"{video} has {done} frames that can be read, of the {frames.count} that it should "
            "have; is it cut short?"
        )
    if clips > 1:
        console.print(
            f"{done} frames in {clips} clips of {command.clip_length}, which share "
            f"{command.clip_overlap} or more; objects were joined where their masks there agree"
        )
    console.print(f"results are in {out}")


def check_options(command: Predict):
    """Refuses options that mean nothing for a video.

    Raises:
        ValueError: one is named.
    """
    if command.images:
        raise ValueError("name images or a --video, not both")
    if command.clip_overlap >= command.clip_length:
        raise ValueError(
            f"--clip-overlap {command.clip_overlap} must be less than --clip-length "
            f"{command.clip_length}"
        )
    for field in dataclasses.fields(Predict):
        if field.name in FOR_IMAGES and getattr(command, field.name) != field.default:
            raise ValueError(f"--{field.name.replace('_', '-')} is for images, not for a --video")


def open_frames(path: Path, *, upright: bool) -> Frames:
    """Opens a video.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it isn't one.
        ImportError: video files need an extra.
    """
    if path.is_dir():
        return FolderFrames(path, upright=upright)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; name a video file, or a folder of its frames")
    from m2f_jax.cli.predicting.video_file import FileFrames  # PyAV is an extra

    return FileFrames(path, upright=upright)


def open_model(command: Predict) -> tuple[Any, dict[str, Any]]:
    """Opens the model on one device; returns it and all that results depend on but the video."""
    from m2f_jax.convert import WrongKindError
    from m2f_jax.inference.digest import digest_of_model
    from m2f_jax.inference.video_segmenter import TOP_K, VideoSegmenter
    from m2f_jax.modeling.video_mask2former import VideoMask2Former
    from m2f_jax.pretrained import load

    dtype = dtype_of(command.dtype)
    try:
        opened = load(
            command.model,
            dtype,
            labels=command.labels,
            revision=command.revision,
            kind=VideoMask2Former,
        )
    except WrongKindError as error:
        raise ValueError(
            f"{command.model} is no model of videos, which --video needs; name one with --model, "
            "or segment the frames by themselves as images: m2f predict FOLDER"
        ) from error
    processor = opened.processor
    if command.native:
        processor = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    assert isinstance(opened.model, VideoMask2Former)
    segmenter = VideoSegmenter(opened.model, processor)
    return segmenter, {
        "weights": digest_of_model(opened.config, segmenter.parameters),
        "labels": categories(opened.labels),
        "processor": repr(processor),
        "threshold": command.threshold,
        "top_k": TOP_K if command.top_k is None else command.top_k,
        "dtype": dtype,
        "native": command.native,
        "clip_length": command.clip_length,
        "clip_overlap": command.clip_overlap,
        "ignore_exif": command.ignore_exif,
    }


def open_folder(out: Path, settings: Mapping[str, Any], source: Mapping[str, Any], overwrite: bool):
    """Begins in an output folder that is held, or takes up an earlier run of the same settings.

    Raises:
        FileExistsError: the folder holds results of images, or of other settings.
    """
    record = out / RUN_FILE
    if (out / "results").exists():
        raise FileExistsError(f"{out} holds results of images; choose another --out")
    if record.exists() and overwrite:
        annotated = (out / "annotated.mp4", *(out / "annotated").glob("*.png"))
        for path in (out / RESULTS, *(out / "clips").glob("*.json"), *annotated):
            path.unlink(missing_ok=True)
    elif record.exists():
        check_settings(out, read_json(record), settings)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    write_json(record, {"format": FORMAT, **source, "settings": settings})


def found_in(out: Path, clip: Clip, segmenter: Any, settings: Mapping[str, Any]) -> ClipInstances:
    """Returns a clip's instances: those of an earlier run, or else the model's, which are kept.

    Raises:
        ValueError: the file of an earlier run is damaged.
    """
    path = out / "clips" / f"{clip.start:08d}.json"
    if path.exists():
        return stored(path, clip, len(settings["labels"]))
    found = ClipInstances.of(
        segmenter(clip.frames, top_k=settings["top_k"], threshold=settings["threshold"])
    )
    write_json(path, to_plain(found), indent=None)
    return found


def stored(path: Path, clip: Clip, classes: int) -> ClipInstances:
    """Reads the instances of a clip from the file of an earlier run.

    Raises:
        ValueError: it is damaged.
    """
    found = from_plain(ClipInstances, read_json(path), str(path))
    if (
        found.size != clip.frames[0].shape[:2]
        or any(len(counts) != len(clip.frames) for counts in found.counts)
        or not all(0 <= label < classes for label in found.labels)
    ):
        raise ValueError(f"{path} is of another clip; remove it, and run the same command again")
    return found


def write_results(
    out: Path,
    name: str,
    frames: Frames,
    tracks: Sequence[JoinedTrack],
    labels: Sequence[Label],
    shape: tuple[int, int, int],
):
    """Writes videos.json, then predictions.json, which says that the results are complete.

    Args:
        out: the output folder.
        name: the video's name, which is its id.
        frames: the video.
        tracks: the objects that were found.
        labels: the classes.
        shape: the number of frames, and their height and width.
    """
    length, height, width = shape
    video: dict[str, Any] = {"id": name, "length": length, "height": height, "width": width}
    if frames.file_names:
        video["file_names"] = frames.file_names
    write_json(out / "videos.json", [video], indent=None)
    seen = [track for track in tracks if any(track.masks.values())]
    entries = [
        {
            "video_id": name,
            "category_id": labels[track.label].id,
            "score": track.score,
            "segmentations": [track.masks.get(t) for t in range(length)],
        }
        for track in sorted(seen, key=lambda track: -track.score)
    ]
    write_json(out / RESULTS, entries, indent=None)
