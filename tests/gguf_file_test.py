"""The head of a GGUF file gives what the package of llama.cpp reads, and is parsed once."""

import numpy as np
import pytest

from mig_jax import gguf_file
from mig_jax.errors import UserError

gguf = pytest.importorskip("gguf")

VALUES = {
    "uint8": 7, "int8": -7, "uint16": 700, "int16": -700, "uint32": 70_000, "int32": -70_000, "float32": 0.5,
    "uint64": 2**40, "int64": -(2**40), "float64": 1e-9, "bool": True, "string": "é <|end|>",
}  # fmt: skip


def write(path, *, alignment=None, texts=("a", "é", "")):
    """Write a file with a value of every type, two arrays and two tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for kind, value in VALUES.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.texts", list(texts))
    writer.add_array("a.numbers", [1.5, 2.5])
    writer.add_tensor("first", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("second", np.ones((4, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [None, 64])
def test_same_as_the_package(tmp_path, alignment):
    path = write(tmp_path / "a.gguf", alignment=alignment)
    file, want = gguf_file.read(path), gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in want.fields.items() if not name.startswith("GGUF.")}
    assert file.metadata == fields and {name: fields[f"a.{name}"] for name in VALUES} == VALUES
    assert fields["a.texts"] == ["a", "é", ""] and fields["a.numbers"] == [1.5, 2.5]
    theirs = [(t.name, tuple(reversed(t.shape.tolist())), int(t.tensor_type), t.data_offset) for t in want.tensors]
    assert [tuple(tensor) for tensor in file.tensors] == theirs
    assert file.nbytes == path.stat().st_size


def test_parsed_once(tmp_path):
    path = write(tmp_path / "a.gguf")
    assert gguf_file.read(path) is gguf_file.read(str(path))
    write(path, texts=("other",) * 9)
    assert gguf_file.read(path).metadata["a.texts"] == ["other"] * 9


def test_other_files_are_refused(tmp_path):
    whole = write(tmp_path / "a.gguf").read_bytes()
    wrong = {
        b"": "incomplete",
        b"PK" * 30: "does not begin with GGUF",
        b"GGUF" + b"\0\0\0\3" + whole[8:]: "version 50331648; supported: 2, 3",
        whole.replace(b"a.uint8" + b"\0\0\0\0", b"a.uint8" + b"\x63\0\0\0"): "a value of type 99",
    }
    for content, message in wrong.items():
        (tmp_path / "b.gguf").write_bytes(content)
        with pytest.raises(UserError, match=f"b.gguf: .*{message}"):
            gguf_file.read(tmp_path / "b.gguf")
