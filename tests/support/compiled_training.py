"""What `compiled_kernels.py` compares of a training step: losses, clipping, sparse rows, updates, sums.

Each function imports of the engine what it needs: the script has replaced the module that imports CUDA.
"""

from __future__ import annotations

import numpy as np


def compare_losses(dtype: str) -> None:
    """Cross-entropy, gradient and hits against the CPU's."""
    from tolerances import assert_close

    from lstm_numba.engines.cpu import losses as truth
    from lstm_numba.engines.cuda import losses

    rng = np.random.default_rng(0)
    logits, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((9, 33), (33,)))
    targets, weights = rng.integers(33, size=9), rng.integers(3, size=9) * 0.5
    loss, gradient, hits = truth.softmax_cross_entropy(
        logits, targets, scale=0.25, weights=weights, bias=bias
    )
    totals = np.zeros(4)
    losses.softmax_cross_entropy(logits, targets, totals, scale=0.25, weights=weights, bias=bias)
    assert_close(totals[:2], [loss, hits], "loss", dtype=dtype)
    assert_close(logits, gradient, "loss")


def compare_number_losses(dtype: str) -> None:
    """Losses of predicted numbers and their gradients against the CPU's."""
    from tolerances import assert_close

    from lstm_numba.engines import number_losses as kinds
    from lstm_numba.engines.cpu.number_losses import number_loss as truth
    from lstm_numba.engines.cuda.number_losses import number_loss

    rng = np.random.default_rng(0)
    targets, weights = rng.standard_normal((9, 3)), rng.integers(3, size=(9, 3)) * 0.5
    for name in kinds.NUMBER_LOSSES:
        loss = kinds.number_loss(name)
        predictions = rng.standard_normal((9, 3 * loss.width)).astype(dtype)
        bias = rng.standard_normal(3 * loss.width).astype(dtype)
        given, totals = (targets, weights, np.array(loss.levels)), np.ones(4)
        gradient = predictions.copy()
        expected = truth(gradient, bias, given, loss.kind, scale=0.25)
        number_loss(predictions, bias, given, loss.kind, totals, scale=0.25)
        assert_close(totals, [expected, 0, 0, 0], "loss", dtype=dtype)
        assert_close(predictions, gradient, "loss")


def compare_training(dtype: str) -> None:
    """Norm, clipping, sparse rows and updates against the CPU's."""
    from tolerances import assert_close

    from lstm_numba.engines.cpu import clipping as truth
    from lstm_numba.engines.cpu.embedding import row_gradient
    from lstm_numba.engines.cuda import clipping, embedding
    from lstm_numba.engines.cuda.engine import CudaEngine
    from lstm_numba.optim import optimizers

    rng = np.random.default_rng(0)
    ids, dy = np.array([[3, 1], [3, 3]]), rng.standard_normal((2, 2, 5)).astype(dtype)
    sparse = embedding.row_gradient(embedding.upload_tokens(ids), dy, (6, 5))
    expected = row_gradient(ids, dy, (6, 5))
    assert_close(sparse.to_dense(), expected.to_dense(), "optimizer")
    grads = {"a": rng.standard_normal(70).astype(dtype), "b": sparse, "c": rng.standard_normal(3)}
    totals = np.zeros(4)
    clipping.clip_by_norm(grads, totals, 2, 3, 0.5)
    norm = truth.global_norm(grads)
    assert_close(totals[2:], [norm, 0.5 / norm], "loss", dtype=dtype)
    for kind, options in (
        (optimizers.Adam, {"weight_decay": 0.1}),
        (optimizers.RMSprop, {"momentum": 0.5}),
        (optimizers.SGD, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
        (optimizers.SGD, {"weight_decay": 0.1}),
        (optimizers.SGD, {}),
    ):
        # Two sets of parameters, of which one is updated by the device's kernels.
        params = [{"p": dy[0].copy(), "q": np.ones(3, dtype), "table": np.ones((6, 5), dtype)} for _ in "ab"]
        ours, theirs = (kind(each, 0.1, **options) for each in params)
        ours._engine = CudaEngine()
        gradients = {"p": dy[1], "q": dy[1, 0, :3], "table": sparse}
        for given in (tuple, np.array):  # hyperparameters as a launch and as a graph pass them
            ours.update(gradients, totals, given(ours.begin_step()))
            theirs.step(gradients, scale=totals[3])
        for name in params[0]:
            assert_close(params[0][name], params[1][name], "optimizer", f"{kind.__name__} {name}")
        for name, array in ours.state_arrays().items():
            assert_close(array, theirs.state_arrays()[name], "optimizer", f"{kind.__name__} {name}")


def compare_sums(dtype: str) -> None:
    """Sums of columns, and the gradients of biases."""
    from lstm_numba.engines.cuda import reductions

    matrix = np.random.default_rng(0).standard_normal((30, 1)).astype(dtype)
    expected = matrix.sum(axis=0, dtype=np.float64).astype(dtype)
    np.testing.assert_allclose(reductions.column_sums(matrix), expected, rtol=1e-6)
    biases = np.full((2, 3), np.nan, dtype)
    reductions.bias_gradients(matrix, (1,), (2,), *biases)
    np.testing.assert_array_equal(biases[[0, 1], [1, 2]], reductions.column_sums(matrix)[[0, 0]])
    assert np.isnan(biases).sum() == 4
