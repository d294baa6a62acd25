"""Which image a result is about."""

import pytest
from m2f_jax.eval.predictions.image_names import ImageNames

from tests.eval.predictions.coco.case import refused, results, score, write


def test_numbers_are_ids_and_text_names_files(dataset, tmp_path):
    path = tmp_path / "found.json"
    for ids in ((1, 2, 3), ("0.png", "1.png", "2.png"), ("0", 2, 3)):
        assert score(write(path, results(*ids)), dataset()).ap == pytest.approx(1)
    # As m2f predict once wrote them: numbers that are the files' names.
    refused(
        write(path, results(0, 1, 2)),
        dataset(),
        r"entry 0: 0 is no image's id, but the name of 0.png \(id 1\); write that id",
    )
    # Text that is both.
    refused(
        write(path, results("0", "1", "2")),
        dataset(),
        r"entry 1: '1' is both 1.png \(id 2\) and 0.png \(id 1\)",
    )


@pytest.mark.parametrize(
    ("files", "ids", "named"),
    [
        (("a/1.png", "b/1.png", "c.png"), (7, 8, 9), ("a/1", "b/1.png", "c")),
        (("a/1.png", "b/2.png", "b/3.png"), (7, 8, 9), ("1", "2.png", "x/b/3")),
        (("a/1.png", "1.png", "b/3.png"), (7, 8, 9), ("a/1", "1", "3")),
        (("1.png", "2.png", "3.png"), ("x", "y/z", "%"), ("x", "y/z", "%")),
        (("1.png", "2.png", "3.png"), ("x", "y", "z"), (1, 2, 3)),
        (("a.jpg", "a.png", "b.c.png"), (7, 8, 9), ("a.jpg", "a.png", "b.c")),
        (("007.png", "7.png", "²³.png"), (7, 8, 9), ("007", 8, "²³")),
        (("1.png", "2.png", "3.png"), ("a/b", "a%2Fb", "a%252Fb"), ("a/b", "a%2Fb", "3")),
        (("1.png", "2.png", "3.png"), ("x" * 300, "x" * 301, "a/" * 90), ("1", "2", "a/" * 90)),
    ],
)
def test_names_of_images(dataset, files, ids, named):
    images = dataset(files=files, ids=ids).images
    names = ImageNames(images)
    by_file = {image.file_name: image.name for image in images}
    assert [names.name_of(x) for x in named] == [by_file[file] for file in files]
    assert len(set(by_file.values())) == 3
    assert all(len(name) <= 200 and "/" not in name for name in by_file.values())
    assert names.name_of("nothing") is None


@pytest.mark.parametrize(
    ("files", "ids", "name"),
    [
        (("a/1.png", "b/1.png", "c.png"), (7, 8, 9), "1"),
        (("a.jpg", "a.png", "c.png"), (7, 8, 9), "a"),
        (("8.png", "9.png", "7.png"), (7, 8, 9), "8"),
        (("b.png", "a.png", "c.png"), ("a", "b", "c"), "a"),
    ],
)
def test_names_of_several_images(dataset, files, ids, name):
    names = ImageNames(dataset(files=files, ids=ids).images)
    with pytest.raises(ValueError, match=f"'{name}' is both "):
        names.name_of(name)
