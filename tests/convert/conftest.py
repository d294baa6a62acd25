"""What tests of the converter share: checkpoints of every format, read and changed."""

import json
import re
import shutil

import numpy as np
import pytest
from m2f_jax.convert import convert
from m2f_jax.convert.files.formats import StoredTensor, open_tensors, write_safetensors

from tests.conftest import GOLDEN, MASKFORMERS, NAMES

CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"


@pytest.fixture
def authors(tiny):
    return tiny.folder / "model_final.pkl"


@pytest.fixture
def hugging_face(tiny, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(tiny.folder / "hf", tmp_path / "hf")


@pytest.fixture
def other():
    """Another model than `authors`."""
    return GOLDEN / "tiny_batch2" / "model_final.pkl"


@pytest.fixture
def ours(authors, tmp_path):
    convert(authors, tmp_path / "ours")
    return tmp_path / "ours"


def read(tensors):
    return {name: tensor.read() for name, tensor in tensors.items()}


def read_file(path):
    """The tensors in a file, under the names that they have there."""
    return read(open_tensors(path))


def write_file(path, arrays):
    write_safetensors(path, {name: StoredTensor.of(array) for name, array in arrays.items()}, {})


def edit(path, changes):
    """Changes fields of a JSON file, or removes those given as `...`."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def check_equal(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], strict=True, err_msg=name)


def check_same_model(one, other):
    assert one.config == other.config
    assert one.processor == other.processor
    check_equal(read(one.tensors), read(other.tensors))


at_hugging_face = pytest.mark.parametrize("golden", [*NAMES, *MASKFORMERS[:2]], indirect=True)


def respell(arrays, spellings):
    result = {}
    for original, array in arrays.items():
        name = original
        for pattern, replacement in spellings:
            name = re.sub(pattern, replacement, name)
        result[name] = array
    for pattern, _ in spellings:
        assert any(re.search(pattern, name) for name in arrays) or pattern.startswith("(swin"), (
            pattern
        )
    return result


SQUARE = {  # as the published checkpoints store it
    "image_processor_type": "Mask2FormerImageProcessor",
    "_max_size": 2048,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"height": 384, "width": 384},
    "size_divisor": 32,
    "rescale_factor": 0.00392156862745098,
    "image_mean": [0.48500001430511475, 0.4560000002384186, 0.4059999883174896],
    "image_std": [0.2290000021457672, 0.2239999920129776, 0.22499999403953552],
    "reduce_labels": False,
    "num_labels": 8,
}


def names_of(labels):
    return [label.name for label in labels]
