"""Few units in the place of many: exact where many are redundant, close elsewhere, with an honest error."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.algebra.adam import Adam
from edge_ad.algebra.units import Hidden, UnitFit, Units


def layer(units: int = 24, inputs: int = 5, *, copies: int = 1, slope: float = 0.2, seed: int = 0) -> Hidden:
    """Answers of a random layer to (20 frames, 400 cells), every unit `copies` times in different sizes."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((20, 400, inputs)).astype(np.float32)
    mix, bias = rng.standard_normal((inputs, units // copies)), rng.standard_normal(units // copies)
    sizes = np.repeat(rng.uniform(0.5, 2, units // copies), copies) * np.tile(np.arange(1, copies + 1), units // copies)
    entering = np.repeat(features @ mix + bias, copies, axis=-1) * sizes
    return Hidden(vectors=entering.astype(np.float32), readout=rng.standard_normal(units), slope=slope)


def answers(hidden: Hidden, vectors: np.ndarray) -> np.ndarray:
    return np.where(vectors > 0, vectors, hidden.slope * vectors) @ hidden.readout


def answers_of_few(units: Units, slope: float, vectors: np.ndarray) -> np.ndarray:
    entering = vectors @ units.mix + units.bias
    return np.where(entering > 0, entering, slope * entering) @ units.few + units.constant


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_copies_of_units_are_not_needed(slope: float) -> None:
    """Sizes do not matter to a rectifier: a third of the units say the same."""
    hidden = layer(24, copies=3, slope=slope)
    units = UnitFit(hidden, 8).fit(8)
    assert (units.mix.shape, units.bias.shape, units.few.shape) == ((24, 8), (8,), (8,))
    wanted = answers(hidden, hidden.vectors)
    came = answers_of_few(units, slope, hidden.vectors)
    assert np.abs(came - wanted).max() < 0.02 * wanted.std()


def test_the_error_is_that_of_frames_it_has_not_seen() -> None:
    hidden = layer(24)
    units = UnitFit(hidden, 6).fit(6)
    unseen = hidden.vectors[16:]
    missed = answers_of_few(units, hidden.slope, unseen) - answers(hidden, unseen)
    assert units.error == pytest.approx(np.sqrt(np.square(missed).mean()) / answers(hidden, unseen).std(), rel=1e-3)
    assert 0.01 < units.error < 0.5


def test_more_units_miss_less_and_fitting_beats_choosing() -> None:
    """Against the best readout of the same units, by least squares."""
    hidden = layer(32)
    fit = UnitFit(hidden, 12)
    few, more = fit.fit(6), fit.fit(12)
    assert more.error < few.error
    chosen = fit.order[:12]
    vectors = hidden.vectors.reshape(-1, 32)
    seen, unseen = vectors[: 16 * 400], vectors[16 * 400 :]
    units = [np.where(part > 0, part, 0.2 * part)[:, chosen] for part in (seen, unseen)]
    with_one = [np.column_stack([part, np.ones(len(part))]) for part in units]
    readout = np.linalg.lstsq(with_one[0], answers(hidden, seen), rcond=None)[0]
    missed = with_one[1] @ readout - answers(hidden, unseen)
    assert more.error < 0.8 * np.sqrt(np.square(missed).mean()) / answers(hidden, unseen).std()


def test_units_are_the_same_every_time() -> None:
    first, second = (UnitFit(layer(), 6, seed=3).fit(5) for _ in range(2))
    np.testing.assert_array_equal(first.mix, second.mix)
    assert first.error == second.error


def test_gradients_are_those_of_the_squared_error() -> None:
    """Against differences of the loss."""
    fit = UnitFit(layer(), 6)
    rng = np.random.default_rng(0)
    x, wanted = fit.seen[:50].astype(np.float64), fit.answers(fit.seen[:50]).astype(np.float64)
    parameters = [rng.standard_normal((x.shape[1], 4)), rng.standard_normal(4), rng.standard_normal(4), np.ones(1)]

    def loss() -> float:
        entering = x @ parameters[0] + parameters[1]
        came = np.where(entering > 0, entering, 0.2 * entering) @ parameters[2] + parameters[3]
        return float(np.square(came - wanted).mean())

    for parameter, gradient in zip(parameters, fit._gradients(x, wanted, parameters), strict=True):
        for place in list(np.ndindex(parameter.shape))[:5]:
            before = parameter[place]
            parameter[place] = before + 1e-6
            above = loss()
            parameter[place] = before - 1e-6
            difference = (above - loss()) / 2e-6
            parameter[place] = before
            assert gradient[place] == pytest.approx(difference, rel=1e-4, abs=1e-6)


def test_adam_steps_as_torch_does() -> None:
    import torch

    start, target = np.linspace(-1, 2, 7, dtype=np.float32), np.float32(0.3)
    ours = start.copy()
    adam = Adam([ours], [0.1], steps=20)
    theirs = torch.from_numpy(start.copy()).requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.1, eps=1e-12)
    for count in range(1, 21):
        adam.step([2 * (ours - target)])
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * 0.5 * (1 + np.cos(np.pi * count / 20))
        optimiser.zero_grad()
        ((theirs - target) ** 2).sum().backward()
        optimiser.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)
