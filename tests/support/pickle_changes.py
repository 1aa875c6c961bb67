"""Seeded changes of the instructions of a pickle, alone or in a file of PyTorch."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile

from mutations import EDGES, Rng, change_bytes, pick
from torch_files import Code, call, emit, made, named

_NAMES = (
    "posix.system", "builtins.eval", "builtins.getattr", "copyreg._reconstructor", "__torch__.M",
    "numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer", "numpy.core.multiarray.scalar",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_parameter", "numpy.dtype",
    "torch.storage._load_from_bytes",
    "torch._tensor._rebuild_from_type_v2", "torch.Size", "torch.BFloat16Storage", "torch.DoubleStorage",
    "torch.QInt8Storage", "torch.storage.UntypedStorage", "torch.float8_e5m2", "collections.OrderedDict",
    "collections.defaultdict", "argparse.Namespace", "_codecs.encode", "builtins.set", "builtins.bytearray",
)  # fmt: skip
_VALUES = (
    None, True, 0, 1, -1, 4, (), (0,), (1, 2), [], [[]], {}, {"a": 1}, {"a": {"b": ()}}, "", "x", "f4", "O8",
    "<", b"", b"1234", 1.5, float("nan"), 1 << 31, 1 << 62, -(1 << 70), (1 << 40, 1 << 40), "y" * 2000,
    "a\n\x1b[31m",
)  # fmt: skip
#: Instructions without an argument, and some with one.
_SINGLE = tuple(
    instruction.code.encode("latin-1") for instruction in pickletools.opcodes if instruction.arg is None
)
_LONG = (
    b"h\x01", b"q\x01", b"j\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"p4294967295\n",
    b"p99999999999999999999\n",
    b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x00", b"\x8d" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f",
    b"\x96" + b"\xff" * 7 + b"\x00", b"\x82\x01", b"P0\n", b"iposix\nsystem\n", b"S'a\\x00\\d'\n", b"I12\n",
    b"L5L\n", b"V\\u12\n", b"F1e999\n", b"\x95" + b"\xff" * 8, b"\x97", b"(]}h\x00h\x01h\x02e",
)  # fmt: skip


def _pieces(content: bytes) -> tuple[list[bytes], bytes]:
    """The instructions of the first pickle, and what follows it."""
    file = io.BytesIO(content)
    places = [place for _, _, place in pickletools.genops(file)]
    ends = [*places[1:], file.tell()]
    assert None not in places
    return [content[a:b] for a, b in zip(places, ends, strict=True)], content[file.tell() :]  # type: ignore[misc]


def _instruction(rng: Rng) -> bytes:
    """Something to put in."""
    what = rng.random()
    if what < 0.3:
        return bytes(pick(rng, _SINGLE))
    if what < 0.5:
        return bytes(pick(rng, _LONG))
    if what < 0.65:
        return bytes(named(pick(rng, _NAMES)))
    if what < 0.8:
        return emit(pick(rng, _VALUES))
    if what < 0.85:
        return bytes(made(pick(rng, _NAMES), pick(rng, _VALUES)))
    arguments = [pick(rng, _VALUES) for _ in range(int(rng.integers(8)))]
    return bytes(call(pick(rng, _NAMES), *(Code(emit(value)) for value in arguments)))


def _changed(piece: bytes, rng: Rng) -> bytes:
    """An instruction with another argument, or another instruction."""
    if piece[:1] == b"c":
        return bytes(named(pick(rng, _NAMES)))
    if piece[:1] in b"KMJ":
        return emit(pick(rng, (*EDGES, 2, 3, 12)))
    if piece[:1] in b"hqjr" and len(piece) == 2:
        return piece[:1] + bytes([int(rng.integers(256))])
    if piece[:1] == b"X":
        text = pick(
            rng, ("", "x", "0", "storage", "weight_hh_l0", "a.b", "lstm.weight_hh_l0", "f8", ">", "O")
        )
        return b"X" + struct.pack("<I", len(text)) + text.encode()
    return _instruction(rng)


def change_pickle(content: bytes, rng: Rng) -> bytes:
    """Put in, leave out, repeat, move or change instructions of a pickle; often one of the last hundred."""
    pieces, rest = _pieces(content)
    for _ in range(int(rng.integers(1, 4))):
        place, what = int(rng.integers(1, len(pieces))), rng.random()
        if what < 0.3:
            pieces.insert(place, _instruction(rng))
        elif what < 0.7:
            pieces[place] = _changed(pieces[place], rng)
        elif what < 0.8:
            pieces.insert(place, pick(rng, pieces))
        elif what < 0.9:
            pieces[place : place + int(rng.integers(1, 6))] = []
            pieces = pieces if len(pieces) > 1 else [b"\x80\x02", b"."]
        else:
            start = int(rng.integers(1, len(pieces)))
            pieces[place:place] = pieces[start : start + int(rng.integers(1, 40))]
    return b"".join(pieces) + rest


def change_pickles(content: bytes, rng: Rng) -> bytes:
    """Change one of the five pickles that a file in PyTorch's old format begins with, mostly the fourth."""
    before, rest = b"", content
    for _ in range(pick(rng, (0, 1, 2, 3, 3, 3, 3, 3, 4))):
        pieces, rest = _pieces(rest)
        before += b"".join(pieces)
    return before + change_pickle(rest, rng)


def change_torch_archive(content: bytes, rng: Rng) -> bytes:
    """Change the pickle of an archive, a storage's length, or the byte order; checksums become right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (main,) = (name for name in members if name.endswith("/data.pkl"))
    other, what = pick(rng, [name for name in members if name != main]), rng.random()
    if what < 0.8:
        members[main] = change_pickle(members[main], rng)
    elif what < 0.85:
        members[main.replace("data.pkl", "byteorder")] = pick(rng, (b"big", b"middle", b"", b"\n" * 999))
    elif what < 0.9:
        members[other] = members[other][: int(rng.integers(1 + len(members[other])))]
    elif what < 0.95:
        del members[other]
    else:
        members[pick(rng, ("x/data.pkl", "../data.pkl", "data.pkl"))] = change_bytes(members[main], rng)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
        for name, held in members.items():
            new.writestr(zipfile.ZipInfo(name), held)
    return memory.getvalue()
