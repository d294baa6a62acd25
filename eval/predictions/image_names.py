"""Which image of a data set in COCO's format an id or a name in predictions means."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from m2f_jax.datasets.coco import CocoImage
from m2f_jax.datasets.coco_format.lists import CocoFileImage, check_images, list_of
from m2f_jax.files import read_json

IMAGES_FILE = "images.json"  # what m2f predict writes beside predictions.json


class ImageNames:
    """The images of a data set, by their ids and by the names of their files.

    A number is always an id, as COCO has it. Text is an id, or a file's name with or without its
    folder and its ending.
    """

    def __init__(self, images: Sequence[CocoImage]):
        """The names of all images of a data set."""
        self.ids = {image.id: image for image in images}
        self.written = {str(image.id): image for image in images}
        self.paths = by_name(images, lambda path: {f"{path}", f"{path.with_suffix('')}"})
        self.files = by_name(images, lambda path: {path.name, path.stem})

    def name_of(self, image_id: int | str) -> str | None:
        """Returns the name of the image that is meant; None if there is no such image.

        Raises:
            ValueError: several are meant, or a number is no id but the name of a file.
        """
        text = str(image_id)
        named = self.with_file(text)
        if not isinstance(image_id, str) and isinstance(next(iter(self.ids), ""), int):
            if image_id not in self.ids and named:
                raise ValueError(
                    f"{image_id} is no image's id, but the name of {described(named[0])}; write "
                    f"that id, or keep {IMAGES_FILE} of m2f predict beside predictions.json"
                )
            named = []
        return one_of(text, [*named, *([self.written[text]] if text in self.written else [])])

    def with_file(self, name: str) -> list[CocoImage]:
        """Returns the images with a file of this name: with its folders, or else without."""
        paths = (self.paths.get(below) for below in endings(name))
        return next(filter(None, paths), None) or self.files.get(name, [])


def by_name(
    images: Sequence[CocoImage], names: Callable[[PurePosixPath], set[str]]
) -> dict[str, list[CocoImage]]:
    """Groups images by each of the names that they have."""
    found: dict[str, list[CocoImage]] = defaultdict(list)
    for image in images:
        for name in names(PurePosixPath(image.file_name)):
            found[name].append(image)
    return dict(found)


def endings(path: str) -> Iterator[str]:
    """Yields a path, and what is left of it without the first folders."""
    parts = PurePosixPath(path).parts
    return ("/".join(parts[k:]) for k in range(len(parts)))


def one_of(text: str, images: Iterable[CocoImage]) -> str | None:
    """Returns the name of the one image among these; None if there are none.

    Raises:
        ValueError: there are several.
    """
    found = {image.name: image for image in images}
    if len(found) > 1:
        listed = " and ".join(f"{x.file_name:.100} (id {x.id})" for x in list(found.values())[:2])
        raise ValueError(
            f"{text!r:.100} is both {listed}; name images by their ids, or by their paths"
        )
    return next(iter(found), None)


def described(image: CocoImage | CocoFileImage) -> str:
    """Returns how messages name an image."""
    return f"{image.file_name!s:.100} (id {image.id})"


class ListedImages:
    """The images that `m2f predict` listed in images.json, found in a data set by their files."""

    def __init__(self, file: Path, images: Sequence[CocoImage]):
        """Reads and checks the list.

        Args:
            file: images.json.
            images: all images of the data set.

        Raises:
            ValueError: it isn't COCO's list of images, a picture has another size than the data set
                says, or two pictures are the same image of the data set.
        """
        self.file = file
        content = read_json(file)
        entries = content if isinstance(content, list) else list_of(content, "images", str(file))
        known = ImageNames(images)
        self.names: dict[int | str, str | None] = {}
        pictures: dict[str, CocoFileImage] = {}
        sizes = {image.name: image.size for image in images}
        for entry in check_images(entries, str(file)):
            if entry.file_name is None:
                raise ValueError(f"{file}: image {entry.id!r} has no file_name")
            self.names[entry.id] = name = name_of_file(entry.file_name, known)
            if name is None:
                continue
            if name in pictures:
                raise ValueError(
                    f"{file}: {described(pictures[name])} and {described(entry)} would both be "
                    f"image {name} of the ground truth; predict on the folder of its images alone"
                )
            if entry.size != sizes[name]:
                (height, width), (ours, theirs) = entry.size, sizes[name]
                raise ValueError(
                    f"{file}: {described(entry)} has {height} x {width} pixels, but image {name} "
                    f"of the ground truth {ours} x {theirs}; they are different pictures"
                )
            pictures[name] = entry

    def name_of(self, image_id: int | str) -> str | None:
        """Returns the name of the image that is meant; None if the data set has no such image.

        Raises:
            ValueError: the list has no such id.
        """
        if image_id not in self.names:
            raise ValueError(f"image {image_id!r:.100} isn't listed in {self.file}")
        return self.names[image_id]


def name_of_file(file_name: str, known: ImageNames) -> str | None:
    """Returns the name of the image with this file; folders above those of the data set may differ.

    Raises:
        ValueError: several images have such a file.
    """
    for below in endings(file_name):
        found = [image for image in known.paths.get(below, []) if same_file(image, below)]
        if found:
            return one_of(file_name, found)
    found = known.files.get(PurePosixPath(file_name).name, [])
    return one_of(file_name, [image for image in found if same_file(image, file_name)])


def same_file(image: CocoImage, file_name: str) -> bool:
    """Whether an image's file has this name, perhaps in another folder."""
    parts = PurePosixPath(file_name).parts
    return PurePosixPath(image.file_name).parts[-len(parts) :] == parts
