"""Adam against torch's, fed the same gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ekfcore.errors import InputError

if TYPE_CHECKING:
    from training.conftest import Linear

adam = pytest.importorskip("ekfcore.training.adam", reason="training needs ekfcore[atoms]")

Samples = Callable[[bool], list[Any]]


def test_against_torch(linear: "Linear", samples: Samples) -> None:
    """Twenty steps on DeePMD-kit's loss, which torch differentiates by itself, with the learning rate decaying."""
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    settings = adam.AdamSettings(learning_rate=0.05, final_learning_rate=0.001, virial_prefactors=(0.02, 1.0))
    steps, batch = 20, [replace(sample, weight=1.0 + 2 * k) for k, sample in enumerate(samples(True))]
    w = np.linspace(-1, 1, 12)
    ours = adam.AdamOptimizer(linear, settings, w, total_steps=steps)
    theirs = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.Adam([theirs], lr=1.0)
    maps = {name: torch.tensor(values) for name, values in linear.maps.items()}
    for count in range(steps):
        share = (0.001 / 0.05) ** (count / steps)
        optimizer.param_groups[0]["lr"] = 0.05 * share
        p_e, p_f, p_v = (b + (a - b) * share for a, b in ((0.02, 1.0), (1000.0, 1.0), (0.02, 1.0)))
        loss = torch.zeros((), dtype=torch.float64)
        for sample in batch:
            de = maps["energy"][sample.environment] @ theirs - float(sample.energy)
            df = maps["forces"][sample.environment] @ theirs - torch.tensor(sample.forces)
            dv = maps["virial"][sample.environment] @ theirs - torch.tensor(sample.virial)
            n = sample.n_atoms
            loss = loss + sample.weight * (p_e * de**2 / n + p_f * (df**2).mean() + p_v * (dv**2).mean() / n)
        optimizer.zero_grad()
        (loss / len(batch)).backward()
        optimizer.step()
        ours.step(batch, np.random.default_rng(0))
    np.testing.assert_allclose(ours.weights, theirs.detach().numpy(), rtol=1e-10)


def test_the_learning_rate_stays_between_drops(linear: "Linear", samples: Samples) -> None:
    """As DeePMD-kit's does: start (stop / start)^(floor(step / decay_steps) decay_steps / total)."""
    settings = adam.AdamSettings(learning_rate=1e-2, final_learning_rate=1e-4, decay_steps=4)
    optimizer, rates = adam.AdamOptimizer(linear, settings, np.zeros(12), total_steps=8), []
    for _ in range(8):
        rates.append(optimizer.rate)
        optimizer.step(samples(False), np.random.default_rng(0))
    np.testing.assert_allclose(rates, [1e-2] * 4 + [1e-3] * 4)


def test_restart(linear: "Linear", samples: Samples) -> None:
    """Ten steps, and four, a restart and six, give the same bits."""
    settings = adam.AdamSettings()
    runs = [adam.AdamOptimizer(linear, settings, np.zeros(12), total_steps=10) for _ in range(3)]
    for _ in range(10):
        runs[0].step(samples(False), np.random.default_rng(0))
    for _ in range(4):
        runs[1].step(samples(False), np.random.default_rng(0))
    runs[2].restore(runs[1].header(), dict(runs[1].arrays()))
    for _ in range(6):
        runs[2].step(samples(False), np.random.default_rng(0))
    np.testing.assert_array_equal(runs[0].weights, runs[2].weights)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"learning_rate": 1e-9}, "`final_learning_rate` must be positive and at most `learning_rate`"),
        ({"force_prefactors": (-1.0, 1.0)}, "`force_prefactors` must not be negative"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], told: str) -> None:
    """Refused when they are made."""
    with pytest.raises(InputError, match=told):
        adam.AdamSettings(**wrong)
