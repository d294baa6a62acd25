import pytest

from m2f_jax.labels import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    Label,
    numbered,
    published_labels,
    things,
)

STUFF_OF_ADE20K = [  # as the authors register it
    *(
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        9,
        11,
        13,
        16,
        17,
        21,
        25,
        26,
        28,
        29,
        34,
        40,
        46,
        48,
        51,
        52,
        54,
        59,
        60,
        61,
        63,
        68,
        77,
        79,
        84,
        91,
        94,
        96,
        99,
        100,
        101,
        105,
        106,
        109,
        113,
        114,
        117,
        122,
        128,
        131,
        140,
        141,
        145,
    ),
]


@pytest.mark.parametrize(
    ("labels", "num_classes", "num_things"),
    [
        (CITYSCAPES, 19, 8),
        (COCO, 133, 80),
        (ADE20K, 150, 100),
        (MAPILLARY_VISTAS, 65, 37),
        (COCO_STUFF, 171, 80),
        (ADE20K_FULL, 847, 0),
    ],
)
def test_counts_and_ids(labels, num_classes, num_things):
    ids = [label.id for label in labels]
    assert len(labels) == num_classes
    assert len(things(labels)) == num_things
    assert ids == sorted(set(ids))  # unique, and in the data set's own order
    assert len({label.name for label in labels}) == num_classes
    for label in labels:
        assert label.name == label.name.strip()
        assert not set(label.name) & set("*;\n")


def test_positions_ids_and_kinds():
    names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert [label.name for label in things(CITYSCAPES)] == names
    assert [label.id for label in things(CITYSCAPES)] == [24, 25, 26, 27, 28, 31, 32, 33]
    assert CITYSCAPES[0] == Label(id=7, name="road", is_thing=False)
    assert CITYSCAPES[6] == Label(id=19, name="traffic light", is_thing=False)

    assert things(COCO) == COCO[:80]
    assert COCO[11] == Label(id=13, name="stop sign", is_thing=True)
    assert COCO[79] == Label(id=90, name="toothbrush", is_thing=True)
    assert COCO[80] == Label(id=92, name="banner", is_thing=False)
    assert COCO[132] == Label(id=200, name="rug-merged", is_thing=False)

    assert [label.id for label in ADE20K] == list(range(150))
    assert ADE20K[8] == Label(id=8, name="window", is_thing=True)
    assert ADE20K[13] == Label(id=13, name="earth, ground", is_thing=False)
    assert ADE20K[149] == Label(id=149, name="flag", is_thing=True)

    assert [label.id for label in ADE20K if not label.is_thing] == STUFF_OF_ADE20K

    assert [label.id for label in MAPILLARY_VISTAS] == list(range(1, 66))
    assert MAPILLARY_VISTAS[50] == Label(id=51, name="Traffic Sign (Front)", is_thing=True)
    assert MAPILLARY_VISTAS[64] == Label(id=65, name="Ego Vehicle", is_thing=False)

    assert COCO_STUFF[:80] == things(COCO)
    assert COCO_STUFF[80] == Label(id=92, name="banner", is_thing=False)
    assert COCO_STUFF[145] == Label(id=157, name="sky-other", is_thing=False)
    assert [label.id for label in COCO_STUFF[80:]] == list(range(92, 183))
    assert COCO_STUFF[170].name == "wood"

    assert [label.id for label in ADE20K_FULL] == list(range(847))
    names = {0: "wall", 99: "aircraft carrier, carrier, flattop, attack aircraft carrier"}
    names |= {300: "altar, communion table, lord's table", 409: "bidet", 561: "wine rack"}
    names |= {782: "central processing unit, cpu, c p u , central processor, processor, mainframe"}
    names |= {846: "adding machine, totalizer, totaliser"}
    assert {k: ADE20K_FULL[k].name for k in names} == names


def test_published_labels_by_count():
    assert published_labels(171) == COCO_STUFF
    assert published_labels(847) == ADE20K_FULL
    assert published_labels(8) == things(CITYSCAPES)
    assert published_labels(19) == CITYSCAPES
    assert published_labels(80) == things(COCO)
    assert published_labels(133) == COCO
    assert published_labels(150) == ADE20K
    assert published_labels(65) == MAPILLARY_VISTAS
    assert published_labels(7) is None


def test_numbered():
    assert numbered(2) == (
        Label(id=1, name="class 0", is_thing=True),
        Label(id=2, name="class 1", is_thing=True),
    )
