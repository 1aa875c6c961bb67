"""Optimizers against torch.optim and the formulas; clipping; schedules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.engines import engine
from lstm_numba.engines.cpu.clipping import (
    clip_by_global_norm,
    clip_by_value,
    clip_factor,
    global_norm,
    sum_of_squares,
)
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, make_optimizer
from lstm_numba.optim.schedules import Cosine, HoldThenDecay, Plateau, make_schedule

DTYPES = [np.float32, np.float64]

#: Name -> (ours, options, name in torch.optim, its options).
SETTINGS: dict[str, tuple[type[Optimizer], dict[str, Any], str, dict[str, Any]]] = {
    "sgd": (SGD, {"lr": 0.1}, "SGD", {}),
    "sgd decay": (SGD, {"lr": 0.1, "weight_decay": 0.05}, "SGD", {}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, "SGD", {}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, "SGD", {}),
    "adam": (Adam, {"lr": 0.02}, "Adam", {}),
    "adam options": (
        Adam,
        {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        "Adam",
        {},
    ),
    "adamw": (AdamW, {"lr": 0.02}, "AdamW", {}),
    "adamw decay": (AdamW, {"lr": 0.02, "weight_decay": 0.3}, "AdamW", {}),
    "rmsprop": (RMSprop, {"lr": 0.02}, "RMSprop", {}),
    "rmsprop options": (
        RMSprop,
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1, "eps": 1e-4},
        "RMSprop",
        {},
    ),
}
_SHAPES = {"a": (3, 5), "b": (7,), "large": (3, 20000)}


def _problem(dtype: Any, steps: int = 4) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape).astype(dtype) for name, shape in _SHAPES.items()}
    grads = [
        {name: rng.standard_normal(shape).astype(dtype) for name, shape in _SHAPES.items()}
        for _ in range(steps)
    ]
    return params, grads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_same_as_torch(setting: str, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    kind, options, name, more = SETTINGS[setting]
    params, grads = _problem(dtype)
    theirs = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in params.items()}
    other = getattr(torch.optim, name)(list(theirs.values()), **options, **more)
    ours = kind(params, **options)
    for number, step in enumerate(grads):
        ours.lr = other.param_groups[0]["lr"] = options["lr"] / (number + 1)
        for key, value in theirs.items():
            value.grad = torch.tensor(step[key])
        ours.step(step)
        other.step()
        for key, value in theirs.items():
            assert_close(params[key], value.detach().numpy(), "optimizer", f"{setting} {key} {number}")


def _by_formula(setting: str, p: Any, grads: list[Any]) -> Any:
    """The textbook updates, one number at a time, in Python."""
    kind, options, _, _ = SETTINGS[setting]
    lr, decay = options["lr"], options.get("weight_decay", 0.01 if kind is AdamW else 0.0)
    result = []
    for start, *gs in zip(p.ravel(), *(g.ravel() for g in grads), strict=True):
        x, v, m, s = float(start), 0.0, 0.0, 0.0
        for t, g in enumerate(gs, start=1):
            if kind is SGD:
                d = g + decay * x
                v = options.get("momentum", 0) * v + d
                x -= lr * (d + options["momentum"] * v if options.get("nesterov") else v)
            elif kind is RMSprop:
                d = g + decay * x
                alpha = options.get("alpha", 0.99)
                s = alpha * s + (1 - alpha) * d * d
                v = options.get("momentum", 0) * v + d / (math.sqrt(s) + options.get("eps", 1e-8))
                x -= lr * v
            else:
                b1, b2 = options.get("betas", (0.9, 0.999))
                d = g + (decay * x if kind is Adam else 0)
                if kind is AdamW:
                    x -= lr * decay * x
                m, s = b1 * m + (1 - b1) * d, b2 * s + (1 - b2) * d * d
                root = math.sqrt(s / (1 - b2**t))
                x -= lr * (m / (1 - b1**t)) / (root + options.get("eps", 1e-8))
        result.append(x)
    return np.array(result).reshape(p.shape)


@pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=[pytest.mark.smoke] * (name in ("sgd", "adam"))) for name in SETTINGS],
)
def test_same_as_the_formulas(setting: str) -> None:
    kind, options, _, _ = SETTINGS[setting]
    params, grads = _problem(np.float64)
    expected = _by_formula(setting, params["a"], [step["a"] for step in grads])
    optimizer = kind(params, **options)
    for step in grads:
        optimizer.step(step)
    assert_close(params["a"], expected, "optimizer", setting)


@pytest.mark.parametrize("setting", SETTINGS)
def test_scale_is_a_factor_of_the_gradients(setting: str) -> None:
    kind, options, _, _ = SETTINGS[setting]
    params, grads = _problem(np.float64)
    others = {name: value.copy() for name, value in params.items()}
    one, other = kind(params, **options), kind(others, **options)
    for step in grads:
        one.step(step, scale=0.125)  # a power of two: exact
        other.step({name: 0.125 * value for name, value in step.items()})
    for name in params:
        assert_close(params[name], others[name], "optimizer", f"{setting} {name}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_sparse_gradients_equal_dense_ones(setting: str, dtype: Any) -> None:
    kind, options, _, _ = SETTINGS[setting]
    rng = np.random.default_rng(1)
    sparse_params = {"p": rng.standard_normal((9, 4)).astype(dtype)}
    dense_params = {"p": sparse_params["p"].copy()}
    one, other = kind(sparse_params, **options), kind(dense_params, **options)
    for indices in ([0, 3, 8], [3], [1, 2, 3, 4]):
        values = rng.standard_normal((len(indices), 4)).astype(dtype)
        rows = SparseRows(np.array(indices), values, (9, 4))
        one.step({"p": rows}, scale=0.5)
        other.step({"p": rows.to_dense()}, scale=0.5)
        np.testing.assert_array_equal(sparse_params["p"], dense_params["p"])


@pytest.mark.parametrize("setting", SETTINGS)
def test_parameters_of_all_kinds_together(setting: str, backend: str) -> None:
    """In one step the same comes out as for each parameter alone, in whatever order the gradients are."""
    kind, options, _, _ = SETTINGS[setting]
    rng = np.random.default_rng(2)
    host: dict[str, Any] = {
        "a": rng.standard_normal((3, 5)).astype(np.float32),
        "table": rng.standard_normal((6, 2)).astype(np.float32),
        "none": np.zeros((0, 4), np.float32),
        "double": rng.standard_normal(7),
        "one": np.ones(1, np.float32),
    }
    device = engine(backend)
    params = {name: device.upload(array.copy()) for name, array in host.items()}
    optimizer = kind(params, **options)
    alone = {name: kind({name: array}, **options) for name, array in host.items()}
    for indices in ([1, 4], [0, 4, 5]):
        rows = SparseRows(np.array(indices), rng.standard_normal((len(indices), 2), np.float32), (6, 2))
        grads = {name: rng.standard_normal(array.shape).astype(array.dtype) for name, array in host.items()}
        for name, gradient in grads.items():
            alone[name].step({name: rows if name == "table" else gradient}, scale=0.5)
        moved = {name: device.upload(gradient) for name, gradient in reversed(grads.items())}
        moved["table"] = SparseRows(device.upload(rows.indices), device.upload(rows.values), rows.shape)
        optimizer.step(moved, scale=0.5)
    for name, expected in host.items():
        assert_close(device.download(params[name]), expected, "optimizer", name)
        for slot, state in alone[name].state_arrays().items():
            assert_close(device.download(optimizer.state_arrays()[slot]), state, "optimizer", slot)


@pytest.mark.parametrize("setting", SETTINGS)
def test_state_goes_on_after_saving_and_loading(setting: str) -> None:
    kind, options, _, _ = SETTINGS[setting]
    params, grads = _problem(np.float32)
    first = kind(params, **options)
    first.step(grads[0])
    first.step(grads[1])
    saved = first.state_dict()
    copies = {name: value.copy() for name, value in params.items()}
    first.step(grads[2])
    second = kind(copies, **{**options, "lr": 77.0})
    second.load_state_dict(saved)
    assert second.lr == options["lr"]
    second.step(grads[2])
    for name in params:
        np.testing.assert_array_equal(copies[name], params[name])


def test_optimizer_errors_name_what_is_wrong() -> None:
    params = {"a": np.zeros((2, 3), np.float32)}
    optimizer = Adam(params)
    with pytest.raises(ValueError, match="b has no counterpart"):
        optimizer.step({"a": params["a"], "b": params["a"]})
    with pytest.raises(ValueError, match=r"grads\['a'\]: expected float32 \(2, 3\), got float64 \(2, 3\)"):
        optimizer.step({"a": np.zeros((2, 3))})
    assert optimizer.steps == 0
    with pytest.raises(ValueError, match="momentum: expected a finite number that is not negative, got -1"):
        SGD(params, 0.1, momentum=-1)
    with pytest.raises(ValueError, match="nesterov: expected a positive momentum"):
        SGD(params, 0.1, nesterov=True)
    with pytest.raises(ValueError, match="params: expected C-contiguous"):
        SGD({"a": np.zeros((2, 3)).T}, 0.1)
    with pytest.raises(ValueError, match=r"state: mean\.a has no counterpart in SGD"):
        SGD(params, 0.1, momentum=0.9).load_state_dict({**Adam(params).state_dict()})
    names = "sgd, rmsprop, adam, adamw, nt-asgd"
    with pytest.raises(ValueError, match=f"optimizer: expected one of {names}, got 'lbfgs'$"):
        make_optimizer("lbfgs", params, 0.1)
    with pytest.raises(ValueError, match="did you mean adam"):
        make_optimizer("adamm", params, 0.1)
    with pytest.raises(ValueError, match="momentum: adam has none"):
        make_optimizer("adam", params, 0.1, momentum=0.9)


# -- clipping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 65536, 65537, 200_003])
def test_sum_of_squares(dtype: Any, size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(dtype)
    expected = math.fsum(float(v) ** 2 for v in values)
    assert sum_of_squares(values) == pytest.approx(expected, rel=1e-13)


def _gradients(dtype: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    rows = SparseRows(np.array([1, 4]), rng.standard_normal((2, 3)).astype(dtype), (6, 3))
    grads = {"w": rng.standard_normal((20, 7)).astype(dtype), "table": rows}
    flat = np.concatenate([grads["w"].ravel(), rows.to_dense().ravel()]).astype(np.float64)
    return grads, flat


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_by_global_norm(dtype: Any) -> None:
    grads, flat = _gradients(dtype)
    norm = float(np.linalg.norm(flat))
    assert clip_by_global_norm(grads, norm * 1.01) == pytest.approx(norm, rel=1e-12)
    np.testing.assert_array_equal(grads["w"].ravel(), flat[:140].astype(dtype))
    assert clip_by_global_norm(grads, 0.5) == pytest.approx(norm, rel=1e-12)
    clipped = np.concatenate([grads["w"].ravel(), grads["table"].to_dense().ravel()])
    assert_close(clipped, flat * 0.5 / norm, "optimizer", "clipped")
    assert global_norm(grads) == pytest.approx(0.5, rel=1e-6)


def test_norm_of_nan_and_infinity_is_not_hidden() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        grads = {"w": np.ones(70_000, np.float32)}
        grads["w"][69_999] = bad
        assert not math.isfinite(clip_by_global_norm(grads, 1.0))
        assert np.all(grads["w"][:-1] == 1)


def test_clip_factor_and_value() -> None:
    assert clip_factor(10.0, 5.0) == 0.5
    assert clip_factor(4.0, 5.0) == 1.0
    assert clip_factor(1e9, None) == 1.0
    with pytest.raises(ValueError, match="max_norm: expected a positive number, got 0"):
        clip_factor(1.0, 0.0)
    grads: dict[str, Any] = {
        "w": np.array([-3.0, 0.5, 2.0, np.nan]),
        "t": SparseRows(np.array([0]), np.array([[9.0, -0.25]]), (5, 2)),
    }
    clip_by_value(grads, 1.0)
    np.testing.assert_array_equal(grads["w"], [-1, 0.5, 1, np.nan])
    np.testing.assert_array_equal(grads["t"].values, [[1, -0.25]])


# -- schedules ---------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_ptb_schedule_is_the_published_one() -> None:
    schedule = HoldThenDecay(1.0, hold=4, decay=0.5)
    assert [schedule.rate(epoch) for epoch in range(8)] == [1, 1, 1, 1, 0.5, 0.25, 0.125, 0.0625]


@pytest.mark.smoke
def test_cosine_with_warmup() -> None:
    schedule = Cosine(2.0, epochs=10, warmup=2, final=0.1)
    rates = [schedule.rate(epoch, step, 4) for epoch in range(10) for step in range(4)]
    np.testing.assert_allclose(rates[:8], 2.0 * np.arange(1, 9) / 8)
    assert rates[8] == 2.0
    assert rates[24] == pytest.approx(2.0 * 0.55)  # half-way after the warm-up
    assert np.all(np.diff(rates[8:]) < 0)
    assert schedule.rate(10, 0, 4) == pytest.approx(0.2)


def test_plateau_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    losses = [3.0, 2.0, 2.0, 1.99999, 2.1, 1.5, 1.6, 1.4999, 1.7, 1.8, 1.4, 1.4, 1.4, 1.4, 1.4, 1.4, 1.3]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, min_lr=0.1)
    ours = Plateau(1.0, factor=0.5, patience=1, minimum=0.1)
    for epoch, loss in enumerate(losses):
        assert ours.rate(epoch) == optimizer.param_groups[0]["lr"], epoch
        theirs.step(loss)
        ours.end_epoch(loss)
        copy = Plateau(1.0, factor=0.5, patience=1, minimum=0.1)
        copy.load_state_dict(ours.state_dict())
        ours = copy
    assert ours.rate(0) < 0.5


def test_make_schedule() -> None:
    assert make_schedule("constant", 0.3, 5).rate(4) == 0.3
    assert make_schedule("ptb", 1.0, 5, {"hold": 1, "decay": 0.1}).rate(2) == pytest.approx(0.01)
    assert make_schedule("cosine", 1.0, 4).rate(2) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="schedule: expected one of constant, ptb, cosine, plateau"):
        make_schedule("linear", 1.0, 5)
    with pytest.raises(ValueError, match="schedule_options: cosine has no option 'hold'"):
        make_schedule("cosine", 1.0, 5, {"hold": 1})
    with pytest.raises(ValueError, match="warmup: expected less than the 5 epochs"):
        make_schedule("cosine", 1.0, 5, {"warmup": 5})
