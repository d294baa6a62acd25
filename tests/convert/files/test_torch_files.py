"""PyTorch's zip files, read without PyTorch."""

import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from m2f_jax.convert.files.formats import open_tensors

from tests.convert.files.conftest import FLOAT, TWELVE, check, data, peak, save_zip, view


def test_torch_zip_without_torch(tmp_path):
    path = tmp_path / "model_final.pth"
    brain = np.arange(4).astype(ml_dtypes.bfloat16)
    whole = view("0", FLOAT, 12, 0, (3, 4), (4, 1))
    tensors = {
        "whole": whole,
        "tied": whole,
        "turned": view("0", FLOAT, 12, 0, (4, 3), (1, 4)),
        "part": view("0", FLOAT, 12, 5, (2, 2), (4, 2)),
        "repeated": view("0", FLOAT, 12, 7, (2, 3), (0, 1)),
        "scalar": view("0", FLOAT, 12, 11, (), ()),
        "empty": view("0", FLOAT, 12, 12, (0, 3), (3, 1)),
        "brain": view("1", b"ctorch\nBFloat16Storage\n", 4, 1, (3,), (1,)),
        "parameter": b"ctorch._utils\n_rebuild_parameter\n(" + whole + b"\x88}tR",
        "array": data(TWELVE),
    }
    save_zip(path, tensors, {"0": TWELVE, "1": brain})
    square = TWELVE.reshape(3, 4)
    want = {
        "whole": square,
        "tied": square,
        "turned": square.T,
        "part": square[1:, 1::2],
        "repeated": np.stack([TWELVE[7:10]] * 2),
        "scalar": TWELVE[11],
        "empty": np.zeros((0, 3), np.float32),
        "brain": brain[1:],
        "parameter": square,
        "array": TWELVE,
    }
    check(open_tensors(path), {name: np.asarray(array) for name, array in want.items()})


@pytest.mark.parametrize(
    "tensor",
    [
        view("0", FLOAT, 12, 0, (4, 4), (4, 1)),
        view("0", FLOAT, 12, 12, (1,), (1,)),
        view("0", FLOAT, 12, -1, (1,), (1,)),
        view("0", FLOAT, 12, 11, (2,), (-1,)),
        view("0", FLOAT, 12, 0, (2, 2), (1,)),
        view("0", FLOAT, 12, 0, ("2",), (1,)),
        view("0", FLOAT, 13, 0, (13,), (1,)),
        view("1", FLOAT, 12, 0, (12,), (1,)),
    ],
)
def test_torch_views_stay_inside_their_storage(tmp_path, tensor):
    path = tmp_path / "model_final.pth"
    save_zip(path, {"a": tensor}, {"0": TWELVE})
    with pytest.raises(ValueError, match=r"model_final\.pth is a zip file that is incomplete or"):
        open_tensors(path)


def test_torch_views_are_read_without_the_rest_of_their_storage(tmp_path):
    path = tmp_path / "model_final.pth"
    storage = np.arange(1 << 21, dtype=np.float32)
    save_zip(path, {"a": view("0", FLOAT, 1 << 21, 9, (2,), (3,))}, {"0": storage}, byteorder=None)
    tensors, opened = peak(lambda: open_tensors(path))
    array, read = peak(tensors["a"].read)
    assert max(opened, read) < 1 << 20
    np.testing.assert_array_equal(array, [9, 12])


def test_torch_zips_that_cannot_be_read(tmp_path):
    path = tmp_path / "model_final.pth"
    save_zip(path, {}, {}, byteorder=b"big")
    with pytest.raises(ValueError, match="big-endian"):
        open_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        open_tensors(path)


@pytest.mark.torch
def test_torch_saves(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with files that PyTorch writes")
    path = tmp_path / "model_final.pth"
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    square = torch.arange(12.0).reshape(3, 4)
    weights = model.state_dict()  # an ordered dict with _metadata
    weights |= {
        "square": square,
        "turned": square.t(),
        "part": square[1:, ::2],
        "repeated": square[:1].expand(5, 4),
        "parameter": torch.nn.Parameter(square.clone()),
        "half": square.half(),
        "index": torch.arange(3),
        "flag": square > 3,
        "scalar": torch.tensor(3, dtype=torch.int32),
        "empty": torch.empty(0, 3, dtype=torch.float64),
    }
    want = {name: tensor.detach().numpy() for name, tensor in weights.items()}
    weights["brain"] = square.bfloat16()
    want["brain"] = square.numpy().astype(ml_dtypes.bfloat16)

    torch.save(weights, path)
    check(open_tensors(path), want)

    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]).state_dict(),
        "iteration": 3,
        "size": square.shape,
        "storage": torch.arange(3.0).untyped_storage(),
    }
    torch.save(state, path)
    check(open_tensors(path), want)
    torch.save({"state_dict": weights}, path)
    check(open_tensors(path), want)

    torch.save(model, path)  # the module itself, which is code
    with pytest.raises(ValueError, match=r"asks for torch\.nn\.modules\.container\.Sequential"):
        open_tensors(path)
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "third_party"}))
    check(open_tensors(path), want)  # as detectron2's converters of backbones write
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"PyTorch wrote before 1\.6"):
        open_tensors(path)
