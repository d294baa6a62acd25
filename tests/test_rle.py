"""Run-length encodings: equal to pycocotools', checked before it sees them."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import (
    check_counts,
    decode_rle,
    encode_rle,
    joined,
    run_lengths,
    sound_counts,
)


def theirs(mask):
    return coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))


def masks(count=300):
    """Small ones, whose runs often go on in the next column, and some with long runs."""
    rng = np.random.default_rng(0)
    small = [rng.random(rng.integers(1, 7, 2)) < rng.choice([0, 0.2, 0.8, 1]) for _ in range(count)]
    return [*small, np.kron(small[-1], np.ones((90, 70), bool)), np.ones((400, 300), bool)]


def test_encodings_equal_those_of_pycocotools():
    for mask in masks():
        ours, reference = encode_rle(mask), theirs(mask)
        assert ours["counts"].encode() == reference["counts"]
        assert ours["size"] == reference["size"]
        left, top, right, bottom = mask_box(mask)
        assert coco_mask.toBbox(reference).tolist() == [left, top, right - left, bottom - top]
        np.testing.assert_array_equal(decode_rle(reference["counts"], mask.shape), mask)


def test_many_are_checked_and_decoded_at_once():
    every = masks(3000)  # several batches
    encoded = [theirs(mask)["counts"] for mask in every]
    counts, faults = check_counts(encoded, [mask.shape for mask in every])
    assert counts == encoded
    assert not faults
    lengths, numbers = run_lengths(encoded)
    parts = np.split(lengths, np.cumsum(numbers)[:-1])
    for mask, part in zip(every, parts, strict=True):
        flat = np.repeat(np.arange(len(part)) % 2 == 1, part)
        np.testing.assert_array_equal(flat, mask.ravel(order="F"))
    assert check_counts([], []) == ([], {})


def test_faults_are_found_among_sound_ones():
    sound = theirs(np.eye(4, 6) > 0)["counts"]
    spoilt = {
        1: (b"", "the counts are empty"),
        2: (sound[:-1], "add up to 16 pixels, the image has 4 x 6"),
        4: (b"\n", "characters that aren't COCO's"),
        5: (sound + b"o", "broken off in the middle"),
        6: (b"oooooooo0", "a number beyond 32 bits"),
        8: (b"~", "characters that aren't COCO's"),
        9: (sound + b"0", "add up to"),  # one more run
        1030: (b"\xed\xa0\x80", "characters that aren't COCO's"),  # in the next batch
        1031: (b"ooooooo", "broken off in the middle"),
        1032: (b"N2", "add up to"),  # begins with a negative run
    }
    encoded = [spoilt.get(k, (sound, ""))[0] for k in range(1040)]
    counts, faults = check_counts(encoded, [(4, 6)] * len(encoded))
    assert sorted(faults) == list(spoilt)
    for index, message in faults.items():
        assert spoilt[index][1] in message
    assert all(counts[k] == sound for k in range(1040) if k not in faults)
    with pytest.raises(ValueError, match="add up to 16 pixels"):
        sound_counts([{"size": [4, 6], "counts": encoded[k]} for k in (0, 2)], (4, 6))


@pytest.mark.parametrize(
    ("parted", "expected"),
    [
        ([3, 0, 5, 16], [8, 16]),
        ([0, 4, 0, 4, 16], [0, 8, 16]),
        ([0, 0, 8, 16], [8, 16]),
        ([0, 0, 0, 0, 24], [24]),
        ([5, 19, 0, 0, 0], [5, 19]),
        ([5, 1, 0, 0, 0, 3, 15], [5, 4, 15]),
    ],
)
def test_empty_runs_part_nothing(parted, expected):
    assert joined(np.array(parted)) == expected
    parts = {"size": [4, 6], "counts": parted}
    whole = {"size": [4, 6], "counts": expected}
    assert sound_counts([parts], (4, 6)) == sound_counts([whole], (4, 6))


def test_compared_with_itself_a_mask_with_empty_runs_is_the_same():
    """Where pycocotools gets two empty runs at one place, it ends too early."""
    [counts] = sound_counts([{"size": [4, 6], "counts": [2, 6, 0, 0, 4, 4, 8]}], (4, 6))
    rle = {"size": [4, 6], "counts": counts}
    assert coco_mask.iou([rle], [rle], [0]) == 1


def test_counts_of_other_kinds():
    size = (4, 6)
    lengths = [3, 5, 16]
    expected = sound_counts([{"size": [4, 6], "counts": lengths}], size)
    for counts in (np.array(lengths), tuple(lengths), expected[0], expected[0].decode()):
        assert sound_counts([{"size": (4, 6), "counts": counts}], size) == expected
    for counts in ([3, 5.0, 16], [True, 7, 16], ["3", "21"], None, 24, {"a": 1}, [[24]]):
        with pytest.raises(ValueError, match="neither text nor a list of whole numbers"):
            sound_counts([{"size": [4, 6], "counts": counts}], size)
    for rle in (np.zeros(size, bool), None, {"size": [4, 6]}, {"counts": [24]}, [24]):
        with pytest.raises(ValueError, match="must be a run-length encoding"):
            sound_counts([rle], size)
    for other in ([6, 4], None, "46", [4], [4, 6, 1], 24):
        with pytest.raises(ValueError, match=r"a mask's size is .*, the image's \[4, 6\]"):
            sound_counts([{"size": other, "counts": [24]}], size)
