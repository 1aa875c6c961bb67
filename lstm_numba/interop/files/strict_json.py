"""JSON out of untrusted bytes: strict, and of bounded size."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError

#: Largest text, in bytes: three million numbers as Python writes them; as objects they take 30 times as much.
LARGEST_TEXT = 1 << 26
#: Longest number, in characters; Python's conversions of longer whole numbers take quadratic time.
_LONGEST_NUMBER = 400


def parse_json(content: bytes | str, where: str = "", constants: bool = False) -> Any:
    """The value of a JSON text.

    Parameters
    ----------
    content : bytes or str
        Bytes in UTF-8.
    where : str
        Part of the file that it is, for messages; empty for the whole.
    constants : bool
        Whether NaN and Infinity are read, which Python writes and JSON lacks.

    Raises
    ------
    WeightsError
        It is too long, invalid JSON, nested too deeply, holds NaN or infinity, or has a key twice.
    """
    prefix = f"{where}: " if where else ""
    if len(content) > LARGEST_TEXT:
        raise WeightsError(f"{prefix}{len(content)} bytes of JSON; at most {LARGEST_TEXT} are read")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            ((twice, _),) = Counter(key for key, _ in items).most_common(1)
            raise WeightsError(f"{prefix}{one_line(twice, 120)!r} is in it twice")
        return found

    def constant(text: str) -> float:
        if not constants:
            raise WeightsError(f"{prefix}holds {text}, which is not finite")
        return float(text.replace("Infinity", "inf"))

    def whole(text: str) -> int:
        if len(text) > _LONGEST_NUMBER:
            raise WeightsError(f"{prefix}holds a number of {len(text)} digits")
        return int(text)

    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=whole)
    except RecursionError:
        raise WeightsError(f"{prefix}lists within lists, too deep") from None
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"{prefix}invalid JSON ({one_line(error, 120)})") from None
