"""Functions and classes that pickles of PyTorch and NumPy name, and what stands for them.

What PyTorch writes: ``torch/_utils.py`` and ``torch/storage.py``; NumPy: ``numpy/_core/multiarray.py`` and
``numeric.py``. Their arguments may be anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.pickled.inert import Budget, Dictionary, Inert, Members, Name, kind_of
from lstm_numba.interop.files.pickled.tensors import (
    DTYPES,
    STORAGE_TYPES,
    ElementType,
    NumpyArray,
    Storage,
    StoredTensor,
    Tensor,
    Unreadable,
    whole_numbers,
)

_LATIN = ("latin1", "latin-1")


def _storage(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise WeightsError(f"damaged pickle: a tensor of {kind_of(value)} instead of a storage")
    return value


def _tensor_value(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise WeightsError(f"damaged pickle: {kind_of(value)} instead of a tensor")
    return value


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    dtype = STORAGE_TYPES[_storage(storage).kind]
    if dtype is None:
        raise WeightsError("damaged pickle: a tensor without a dtype")
    return StoredTensor(storage, offset, shape, strides, dtype)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    return _marked(_rebuild_tensor(storage, offset, shape, strides), metadata)


def _rebuild_tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    name = dtype.name.rpartition(".")[2] if isinstance(dtype, Name) else ""
    if name not in DTYPES:
        raise WeightsError(f"damaged pickle: a tensor with the dtype {kind_of(dtype)}")
    return _marked(StoredTensor(_storage(storage), offset, shape, strides, name), metadata)


def _marked(tensor: Tensor, metadata: Any) -> Tensor:
    """A tensor whose numbers stand with another sign, of the imaginary part or all, is not read."""
    marks = metadata.entries if isinstance(metadata, Dictionary) else {}
    if isinstance(tensor, StoredTensor) and any(marks.get(mark) is True for mark in ("conj", "neg")):
        return Unreadable("conjugated" if marks.get("conj") is True else "negated", tensor.shape)
    return tensor


def _rebuild_qtensor(storage: Any, offset: Any, shape: Any, *rest: Any) -> Tensor:
    return Unreadable(STORAGE_TYPES[_storage(storage).kind] or "quantized", shape)


def _rebuild_sparse_tensor(layout: Any, data: Any) -> Tensor:
    sizes = [part for part in data if type(part) in (tuple, list)] if type(data) is tuple else []
    return Unreadable("sparse", sizes[0] if sizes else None)


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """A tensor with attributes, which are left out."""
    rebuild = _REBUILD.get(function.name) if isinstance(function, Name) else None
    if rebuild is None or type(arguments) is not tuple or len(arguments) > 8:
        raise WeightsError(f"has {kind_of(function)} called, which is not executed")
    return rebuild(*arguments)


_REBUILD: dict[str, Callable[..., Tensor]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_qtensor": _rebuild_qtensor,
    "torch._utils._rebuild_sparse_tensor": _rebuild_sparse_tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, shape, *_: Unreadable("meta", shape),
    "torch._utils._rebuild_nested_tensor": lambda *_: Unreadable("nested", ()),
    **dict.fromkeys(
        (
            "torch._utils._rebuild_parameter",
            "torch._utils._rebuild_parameter_with_state",
            "torch._utils._rebuild_device_tensor_from_numpy",
            "torch._utils._rebuild_device_tensor_from_cpu_tensor",
            "torch._utils._rebuild_xla_tensor",
        ),
        lambda tensor, *_: _tensor_value(tensor),
    ),
}


def _reconstruct(kind: Any, shape: Any, code: Any) -> Tensor:
    if not isinstance(kind, Name) or kind.name != "numpy.ndarray":
        raise WeightsError(f"damaged pickle: an array of the class {kind_of(kind)}")
    return NumpyArray()


def _element_type(code: Any, align: Any = False, copy: Any = False) -> Inert:
    if isinstance(code, Name):
        code = code.name.rpartition(".")[2]
    if type(code) is not str or not code or len(code) > 40:
        raise WeightsError(f"damaged pickle: a dtype of {kind_of(code)}")
    return ElementType(one_line(code))


def _from_buffer(data: Any, dtype: Any, shape: Any, layout: Any, axes: Any = None) -> Tensor:
    array = NumpyArray()
    array.dtype, array.shape, array.data = dtype, shape, data
    if type(layout) is not str or layout not in ("C", "F", "K"):
        raise WeightsError("damaged pickle: an array neither row- nor column-major")
    if layout == "K" and axes is not None:
        array.axes = whole_numbers(axes, "axes")
    else:
        array.layout = "F" if layout == "F" else "C"
    return array


def _bytes(value: Any = b"", coding: Any = "latin1") -> Any:
    if type(value) not in (bytes, bytearray) or coding not in _LATIN:
        raise WeightsError(f"damaged pickle: bytes of {kind_of(value)}")
    return value


def _dictionary(budget: Budget, items: Any = ()) -> Any:
    if isinstance(items, Dictionary):
        return items
    if type(items) not in (list, tuple):
        raise WeightsError(f"damaged pickle: a dictionary of {kind_of(items)}")
    budget.spend(16 * len(items))
    found = Dictionary()
    for item in items:
        if type(item) not in (list, tuple) or len(item) != 2 or type(item[0]) is not str:
            raise WeightsError("damaged pickle: a dictionary of something else than pairs of text and value")
        found.entries[item[0]] = item[1]
    return found


def _encode(budget: Budget, text: Any, coding: Any) -> bytes:
    if type(text) is not str or coding not in _LATIN:
        raise WeightsError(f"damaged pickle: bytes of {kind_of(text)}")
    budget.spend(len(text))
    return text.encode("latin-1")


def functions(budget: Budget) -> dict[str, Callable[..., Any]]:
    """Names of functions and classes -> what stands for them in a pickle."""
    return {
        **_REBUILD,
        "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
        "torch.serialization._get_layout": lambda name: Name("a layout"),
        "torch.Size": lambda sizes=(): whole_numbers(sizes, "shape"),
        "torch.device": lambda *_: Name("a device"),
        "torch.jit._pickle.restore_type_tag": lambda value, kind: value,
        **{
            f"torch.jit._pickle.build_{kind}list": lambda values: values
            for kind in ("int", "double", "bool", "tensor")
        },
        **dict.fromkeys(
            ("numpy.core.multiarray._reconstruct", "numpy.core._multiarray_umath._reconstruct"), _reconstruct
        ),
        "numpy.core.multiarray.scalar": lambda dtype, data=None: Name("a number"),
        "numpy.core.numeric._frombuffer": _from_buffer,
        "numpy.dtype": _element_type,
        "collections.OrderedDict": lambda items=(): _dictionary(budget, items),
        "collections.Counter": lambda items=(): _dictionary(budget, items),
        "collections.defaultdict": lambda factory=None, items=(): _dictionary(budget, items),
        "builtins.set": lambda members=(): Members(),
        "builtins.frozenset": lambda members=(): Members(),
        "builtins.complex": lambda *_: Name("a number"),
        "builtins.bytes": _bytes,
        "builtins.bytearray": _bytes,
        "_codecs.encode": lambda text, coding="": _encode(budget, text, coding),
    }


#: Names that are arguments of functions.
NAMES = frozenset(
    [
        *STORAGE_TYPES,
        *(f"torch.{dtype}" for dtype in DTYPES),
        *(f"torch.per_{scale}_{kind}" for scale in ("tensor", "channel") for kind in ("affine", "symmetric")),
        "torch.per_channel_affine_float_qparams",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        "numpy.ndarray",
        "ml_dtypes.bfloat16",
        *(f"builtins.{kind}" for kind in ("list", "dict", "tuple", "int", "float", "str", "bool")),
    ]
)
