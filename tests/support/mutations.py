"""What can happen to a file: seeded changes of bytes, of JSON, and of formats with checksums."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
Mutator = Callable[[bytes, Rng], bytes]

#: Whole numbers at the edges of their types.
EDGES = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    32767,
    65535,
    1 << 20,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 32) - 1,
    1 << 40,
)
#: Values that JSON's grammar allows and nobody expects; already text, as Python writes some otherwise.
ODD_JSON = (
    "null", "true", "-1", "0", "1e308", "-1e308", "1e400", "NaN", "-Infinity",
    "1" + "0" * 400, "1" + "0" * 5000,
    '""', '"x"', '"\\u0000"', '"\\ud800"', '"' + "y" * 5000 + '"', "[]", "{}", "[[[[]]]]", '{"a": {"a": 1}}',
    "[" * 200_000 + "]" * 200_000, "1.5", "-0.0", "99999999999999999999", '"../../etc"', '"\\n\\u001b[31m"',
)  # fmt: skip


def pick(rng: Rng, values: Any) -> Any:
    """One of several."""
    return values[int(rng.integers(len(values)))]


# -- bytes -------------------------------------------------------------------------------------------


def _flip(content: bytearray, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 5))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def _put(content: bytearray, rng: Rng) -> None:
    kind = pick(rng, ("<i", ">i", "<q", ">q", "<h", ">h"))
    number = pick(rng, EDGES)
    size = struct.calcsize(kind)
    place = int(rng.integers(len(content)))
    content[place : place + size] = (number % (1 << 8 * size)).to_bytes(
        size, "little" if kind[0] == "<" else "big"
    )


def _cut(content: bytearray, rng: Rng) -> None:
    del content[int(rng.integers(len(content))) :]


def _behead(content: bytearray, rng: Rng) -> None:
    del content[: int(rng.integers(1, min(len(content), 64) + 1))]


def _drop(content: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(content)))
    del content[start : start + int(rng.integers(1, 40))]


def _insert(content: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(content)))
    content[start:start] = pick(
        rng, (rng.bytes(int(rng.integers(1, 40))), b"\0" * 9, b"\xff" * 9, b"\n", b"[" * 9000)
    )


def _repeat(content: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(content)))
    content[start:start] = content[start : start + int(rng.integers(1, 2000))]


def _blank(content: bytearray, rng: Rng) -> None:
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 40)))
    content[start:stop] = pick(rng, (b"\0", b"\xff", b" ")) * (stop - start)


def _move(content: bytearray, rng: Rng) -> None:
    half = int(rng.integers(len(content)))
    content[:] = content[half:] + content[:half]


def change_bytes(content: bytes, rng: Rng) -> bytes:
    """Flip, overwrite with numbers at the edges, cut, drop, insert, repeat, blank or move; mostly once."""
    changed = bytearray(content)
    for _ in range(1 if rng.random() < 0.7 else 3):
        if changed:
            pick(rng, (_flip, _put, _cut, _behead, _drop, _insert, _repeat, _blank, _move))(changed, rng)
    return bytes(changed)


# -- JSON --------------------------------------------------------------------------------------------


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        _places(value[key], found)
    return found


def change_json(content: bytes, rng: Rng) -> bytes:
    """Put something odd in a place of a JSON text, or take it out, or give its key another name."""
    whole = json.loads(content)
    places = _places(whole, [])
    odd = {}
    for _ in range(int(rng.integers(1, 3))):
        holder, key = pick(rng, places)
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue
        what = rng.random()
        if what < 0.8:
            mark = f"<odd {len(odd)}>"
            odd[json.dumps(mark)] = pick(rng, ODD_JSON)
            holder[key] = mark
        elif what < 0.9 or isinstance(holder, list):
            del holder[key]
        else:
            holder[pick(rng, ("", "x", key + " ", key.upper()))] = holder.pop(key)
    text = json.dumps(whole)
    for mark, value in odd.items():
        text = text.replace(mark, value)
    return text.encode()


def change_json_lines(content: bytes, rng: Rng) -> bytes:
    """Change a line of JSON."""
    lines = content.splitlines()
    number = int(rng.integers(len(lines)))
    lines[number] = pick(rng, (change_json(lines[number], rng), pick(rng, ODD_JSON).encode()))
    return b"\n".join(lines) + b"\n"


# -- formats that a change of bytes alone would only make damaged -------------------------------------


def change_safetensors(content: bytes, rng: Rng) -> bytes:
    """Change the header, and let its length be right."""
    size = int.from_bytes(content[:8], "little")
    header = change_json(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def change_checkpoint(content: bytes, rng: Rng) -> bytes:
    """Change what the program keeps as JSON inside the header's JSON; its checksum becomes right again."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    stored = json.loads(header["__metadata__"]["lstm_numba"])
    text = change_json(stored["meta"].encode(), rng).decode()
    stored["meta"] = text
    stored["checksum"] = _checksum(text, content[8 + size :], header)
    header["__metadata__"]["lstm_numba"] = json.dumps(stored)
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + content[8 + size :]


def _checksum(text: str, data: bytes, header: dict[str, Any]) -> int:
    kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8", "U32": "<u4", "I32": "<i4", "U8": "|u1"}
    total = zlib.crc32(text.encode())
    for name in sorted(header.keys() - {"__metadata__"}):
        entry = header[name]
        start, stop = entry["data_offsets"]
        total = zlib.crc32(f"{name} {kinds[entry['dtype']]} {tuple(entry['shape'])}".encode(), total)
        total = zlib.crc32(data[start:stop], total)
    return total


def change_archive(content: bytes, rng: Rng) -> bytes:
    """Change a member of a zip archive, or its name, and let its checksum be right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        comment = archive.comment
    number = int(rng.integers(len(members)))
    name, held = members[number]
    what = rng.random()
    if what < 0.7:
        head = change_bytes(held[:128], rng) if rng.random() < 0.7 else held[:128]
        members[number] = (name, head + held[128:] if head != held[:128] else change_bytes(held, rng))
    elif what < 0.9:
        members[number] = (
            pick(rng, ("x.npy", "../../x.npy", "/x.npy", "x", name[:-4], "é\n.npy", name * 900)),
            held,
        )
    else:
        comment = pick(rng, (change_json(comment, rng) if comment else b"[", b'{"lstm_numba.cell": [[1]]}'))
    memory = io.BytesIO()
    with zipfile.ZipFile(
        memory, "w", pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    ) as new:
        for name, held in members:
            new.writestr(zipfile.ZipInfo(name[:60_000] or "x"), held)
        new.comment = comment[:60_000]
    return memory.getvalue()


def change_keras(content: bytes, rng: Rng) -> bytes:
    """Change the configuration or the weights in an archive of Keras, and let the checksum be right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, ("config.json", "config.json", "metadata.json", "model.weights.h5"))
    how = pick(rng, (change_hdf5, change_bytes)) if name.endswith("h5") else change_json
    members[name] = how(members[name], rng)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        for member, held in members.items():
            new.writestr(zipfile.ZipInfo(member), held)
    return memory.getvalue()


def change_hdf5(content: bytes, rng: Rng) -> bytes:
    """Change what an HDF5 file holds: shapes, types, attributes, links, layouts."""
    import h5py

    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        places: list[str] = []
        file.visit(places.append)
        datasets = [place for place in places if isinstance(file[place], h5py.Dataset)]
        groups = [place for place in places if place not in datasets] + ["/"]
        for _ in range(int(rng.integers(1, 4))):
            with contextlib.suppress(TypeError, ValueError, KeyError):  # what h5py does not write
                if rng.random() < 0.4:
                    _change_attribute_hdf5(file[pick(rng, groups)], rng)
                else:
                    _change_dataset(file, pick(rng, datasets), pick(rng, groups), rng)
    return memory.getvalue()


def _change_attribute_hdf5(holder: Any, rng: Rng) -> None:
    names = [*holder.attrs] or ["x"]
    name = pick(rng, names)
    value = pick(
        rng, ("", "x", b"{", [], [1, 2], ["a", "b/c"], "y" * 9000, np.zeros(3, "f4"), b"[" * 3000, -1)
    )
    if name in holder.attrs and rng.random() < 0.5:
        old = holder.attrs[name]
        if isinstance(old, str) and old.startswith("{"):
            value = change_json(old.encode(), rng).decode()[:60_000].encode()
        elif isinstance(old, np.ndarray) and old.size:
            value = [*old[1:], pick(rng, (old[0], b"x", b"../x", b"")) if old.dtype.kind in "SO" else 1]
    if isinstance(value, bytes):
        value = value.replace(b"\0", b"?")
    holder.attrs[name] = value


def _change_dataset(file: Any, place: str, group: str, rng: Rng) -> None:
    import h5py

    old = np.asarray(file[place][()])
    del file[place]
    what = int(rng.integers(9))
    if what == 0:
        file[place] = np.resize(old, tuple(int(n) for n in rng.integers(0, 9, int(rng.integers(4)))))
    elif what == 1:
        file[place] = old.astype(pick(rng, ("f2", ">f4", "f8", "i4", "u1", "S3", "?", "c8")))
    elif what == 2:
        file[place] = pick(rng, (h5py.SoftLink("/"), h5py.SoftLink(place), h5py.ExternalLink("x.h5", "/")))
    elif what == 3:
        file[place] = file.get(group, old)
    elif what == 4 and old.ndim:
        how = pick(
            rng, ({"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True, "fletcher32": True})
        )
        file.create_dataset(place, data=old, chunks=tuple(max(1, n // 2) for n in old.shape), **how)
    elif what == 5:
        file.create_dataset(
            place, tuple(pick(rng, EDGES[:6]) % 999 for _ in old.shape), pick(rng, ("f4", "u1"))
        )
    elif what == 6:
        file[place] = pick(rng, (h5py.Empty("f4"), "text", np.zeros(2, [("a", "f4")]), old.T, old * np.nan))
    elif what == 7:
        file.create_dataset(place, old.shape, "f4", external=[("/etc/passwd", 0, max(4, 4 * old.size))])
    else:
        file[f"{place}x"] = old


def change_onnx(content: bytes, rng: Rng) -> bytes:
    """Change what a model says: a node's operator, order, names or attributes, a tensor's shape or type."""
    import onnx

    model = onnx.load_model_from_string(content)
    graph = model.graph
    nodes = _nodes_inside(graph)
    held = [a.t for node in nodes for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    tensors = [*graph.initializer, *held]
    names = [name for node in nodes for name in (*node.input, *node.output)] + ["", "no such name"]
    operators = [node.op_type for node in nodes] + [
        "Add",
        "Div",
        "Where",
        "Cast",
        "Gather",
        "Loop",
        "If",
    ]
    for _ in range(int(rng.integers(1, 4))):
        node = pick(rng, nodes)
        tensor = pick(rng, tensors)
        what = int(rng.integers(8))
        if what == 0:
            node.op_type = pick(rng, operators)
        elif what == 1 and node.input:
            node.input[int(rng.integers(len(node.input)))] = pick(rng, names)
        elif what == 2 and node.output:
            node.output[int(rng.integers(len(node.output)))] = pick(rng, names)
        elif what == 3 and node.attribute:
            _change_attribute(pick(rng, node.attribute), rng)
        elif what == 4 and tensor.dims:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, EDGES)
        elif what == 5:
            tensor.data_type = int(rng.integers(24))
        elif what == 6 and tensor.data_type in (6, 7):
            numbers = [pick(rng, EDGES) for _ in range(int(rng.integers(4)))]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(numbers, np.int64), tensor.name))
        elif what == 7:
            dimensions = pick(rng, graph.input).type.tensor_type.shape.dim
            if dimensions:
                dimensions[int(rng.integers(len(dimensions)))].dim_value = pick(rng, EDGES)
    return bytes(model.SerializeToString())


def _nodes_inside(graph: Any) -> list[Any]:
    """The nodes of a graph, and of those inside of it."""
    inner = [_nodes_inside(a.g) for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for nodes in inner for node in nodes)]


def _change_attribute(attribute: Any, rng: Rng) -> None:
    attribute.i = pick(rng, EDGES)
    attribute.f = pick(rng, (float("nan"), float("inf"), -1.0, 0.0, 1e38))
    attribute.s = pick(rng, (b"", b"x", b"reverse", b"\xff", b"y" * 999))
    attribute.ints.extend([pick(rng, EDGES)])
    attribute.floats.extend([float("nan")])
    attribute.strings.extend([pick(rng, (b"Tanh", b"", b"HardSigmoid"))])
    attribute.type = int(rng.integers(9))
    attribute.name = pick(rng, (attribute.name, attribute.name, "axis", "clip", "activations", "x"))


def change_gzip(content: bytes, rng: Rng) -> bytes:
    """Change what a gzip file holds."""
    return gzip.compress(change_bytes(gzip.decompress(content), rng), 1)


def change_png(content: bytes, rng: Rng) -> bytes:
    """Change a chunk of a PNG, and let its checksum be right; or repeat, drop or add one."""
    chunks, place = [], 8
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    number = int(rng.integers(len(chunks)))
    name, data = chunks[number]
    what = rng.random()
    if what < 0.6 and data:
        inflated = name == b"IDAT" and rng.random() < 0.5
        new = zlib.compress(change_bytes(zlib.decompress(data), rng)) if inflated else change_bytes(data, rng)
        chunks[number] = (name, new)
    elif what < 0.7:
        chunks.insert(number, (name, data))
    elif what < 0.8:
        del chunks[number]
    else:
        extra = pick(rng, (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"PLTE", b"zTXt", b"iCCP", b"pHYs"))
        chunks.insert(1, (extra, rng.bytes(int(rng.integers(40)))))
    out = content[:8]
    for name, data in chunks:
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out
