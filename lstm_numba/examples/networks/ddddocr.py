"""ddddocr: the characters in a picture. An LSTM of 512 units in each direction, between convolutions.

The LSTM alone is computed here, on what the convolutions of the package's ONNX file make of a picture, and
compared with what the file's own LSTM gives. It is timed beside ONNX Runtime on the same node, cut out of
the file. The pictures are made up: strokes on a grey ground.

    pip install onnx onnxruntime
    python -m lstm_numba.examples.networks.ddddocr --download

Package and network: sml2h3, MIT license, github.com/sml2h3/ddddocr. The package has 76 MB.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.examples.networks.comparison import Comparison, difference, run
from lstm_numba.examples.networks.onnx_parts import Model, session
from lstm_numba.examples.networks.package import Package

PACKAGE = Package(
    "ddddocr",
    "1.6.1",
    {"ddddocr/common.onnx": "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8"},
)
HEIGHT = 64
#: Recurrent weights are up to 3: over 60 steps our outputs and ONNX Runtime's come to be 4e-6 and 6e-6 away
#: from what float64 gives.
TOLERANCE = 3e-5

Array = np.ndarray[Any, Any]


def draw_picture(width: int, seed: int = 0) -> Array:
    """A grey picture (1, 1, 64, width) with dark strokes, from -1 to 1, float32."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:HEIGHT, :width]
    picture = 0.6 + 0.1 * rng.standard_normal((HEIGHT, width))
    for left in range(10, width - 20, 12):
        (y0, y1), lean = rng.uniform(8, 56, 2), rng.uniform(-0.4, 0.4)
        near = np.abs(column - left - lean * (row - 32)) < 2.5
        picture[near & (row > min(y0, y1)) & (row < max(y0, y1) + 6)] = -0.8
    return np.clip(picture, -1, 1).astype(np.float32)[None, None]


def compare(path: Path, threads: int = 1, widths: tuple[int, ...] = (160, 480)) -> list[Comparison]:
    """Our layer on the features of pictures; a step is 8 pixels wide."""
    # Frozen: its weights stay as they are, so that no call looks for changes. Sessions have theirs fixed too.
    layer, model = ln.load_onnx(path, node=0).freeze(), Model(path)
    (node,) = model.recurrent
    read, given = node.input[0], node.output[0]
    whole, cut = (
        session(m, threads) for m in (model.with_outputs([read, given]), model.part([given], [read]))
    )
    found = []
    for width in widths:
        features, expected = whole.run([read, given], {"input1": draw_picture(width)})
        steps, directions, batch, units = expected.shape
        ours, _ = layer(features)
        theirs = expected.transpose(0, 2, 1, 3).reshape(steps, batch, directions * units)
        found.append(
            Comparison(
                f"LSTM {features.shape[-1]} -> 2 x {units}, {steps} steps", "ONNX Runtime",
                difference(ours, theirs), TOLERANCE,
                partial(layer, features), partial(cut.run, None, {read: features}),
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Find the network, compare, time."""
    run(PACKAGE, compare)


if __name__ == "__main__":
    main()
