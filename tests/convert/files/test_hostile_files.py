"""Nothing in a file is run."""

import builtins
import copyreg
import os
import pickle

import numpy as np
import pytest
from m2f_jax.convert.files.formats import open_tensors

from tests.convert.files.conftest import data, save_zip


class Call:
    """Is pickled as a call of a function, which is then made by whoever unpickles it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_contents(proof):
    """Pickle opcodes that would leave a file behind, were they run; and what is said of them."""
    system, touch = f"{os.system.__module__}.system", f"touch {proof}"
    create = f"open({str(proof)!r}, 'w')"
    return {
        system: data(Call(os.system, touch)),
        "builtins.eval|__builtin__.eval": data(Call(builtins.eval, create)),
        "builtins.getattr|__builtin__.getattr": data(Call(getattr, Call(dict), "keys")),
        "numpy.load": b"cnumpy\nload\n" + data((str(proof),)) + b"R",
        "numpy.f2py.*": b"cnumpy.f2py.crackfortran\nmyeval\n" + data((create,)) + b"R",
        "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(tR",
        "as 'rot13'": b"c_codecs\nencode\n" + data(("nopq", "rot13")) + b"R",
        "array of O": data(np.array([None], dtype=object)),
        "array of U4": data(np.array(["text"])),
        "sets the state of a Function": b"c_codecs\nencode\nN"
        + data({"__defaults__": (1,)})
        + b"\x86b",
        "uses EXT1": b"\x82\xf1",
        "is list and no tensor": data([]) + b"r\xff\xff\xff\xff",  # a memo of 2**32 entries
        "refers to 'elsewhere'": data("elsewhere") + b"Q",
        "is int and no tensor": data(3),
    }


HOSTILE = list(hostile_contents("proof"))


@pytest.mark.parametrize("message", HOSTILE)
@pytest.mark.parametrize("container", ["pickle", "zip"])
def test_nothing_in_a_file_is_run(tmp_path, container, message):
    proof, path = tmp_path / "proof", tmp_path / "model_final.pkl"
    opcodes = hostile_contents(proof)[message]
    if container == "zip":
        save_zip(path, {"a": opcodes}, {})
    else:
        path.write_bytes(b"\x80\x02}" + data("model") + b"}" + data("a") + opcodes + b"ss.")
    with pytest.raises(ValueError, match=rf"model_final\.pkl .*({message})"):
        open_tensors(path)
    assert not proof.exists()


def test_the_hostile_files_would_work_elsewhere(tmp_path):
    proof = tmp_path / "proof"
    pickle.loads(b"\x80\x02" + hostile_contents(proof)[HOSTILE[0]] + b".")
    assert proof.exists()


def test_extension_codes_are_refused_even_where_they_are_known(tmp_path):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(b"\x80\x02\x82\xf0" + data(("x",)) + b"R.")
    copyreg.add_extension("builtins", "print", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is print  # and is remembered
        with pytest.raises(ValueError, match="uses EXT1"):
            open_tensors(path)
    finally:
        copyreg.remove_extension("builtins", "print", 0xF0)
