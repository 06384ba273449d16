"""DeePMD-kit's side of the comparison: its updates, steps, passes and training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Filtering", "hide_library", "make_adam_step", "make_trainer", "make_update", "settings"]

_WIDTHS = ((1, 25), (25, 25), (25, 25), (400, 50), (50, 50), (50, 50), (50, 1))  # of the paper's network
_ATOMS, _GROUP_SIZE = 24, 6  # fixed in DeePMD-kit's training


def hide_library() -> None:
    """Let DeePMD-kit work with any PyTorch.

    Its C++ library loads with the one version that it was built for; se_e2_a does not need it.
    """
    import deepmd.env
    import torch

    if torch.__version__.partition("+")[0] != deepmd.env.GLOBAL_CONFIG.get("pt_version"):
        deepmd.env.SHARED_LIB_DIR = Path("/nonexistent")
        deepmd.env.GLOBAL_CONFIG["cibuildwheel"] = "0"


def make_update(block_size: int) -> tuple[Callable[[], None], tuple[int, ...]]:
    """Return LKFOptimizer.step on a module with the parameters of the paper's network, and the blocks of its P."""
    import torch
    from deepmd.pt.optimizer import LKFOptimizer

    torch.manual_seed(0)
    shapes = [shape for n_in, n_out in _WIDTHS for shape in ((n_in, n_out), (n_out,))]
    module = torch.nn.ParameterList(torch.nn.Parameter(0.1 * torch.randn(s, dtype=torch.float64)) for s in shapes)
    for parameter in module:
        parameter.grad = 0.01 * torch.randn_like(parameter)
    optimizer = LKFOptimizer(module.parameters(), block_size=block_size)
    optimizer.set_grad_prefactor(1.0)
    error = torch.tensor(0.1, dtype=torch.float64)
    return lambda: optimizer.step(error), tuple(optimizer.state[module[0]]["params_packed_index"])


class Filtering:
    """A training with the optimizer LKF, step by step.

    Parameters
    ----------
    input_file : Path
        An input with that optimizer.
    """

    def __init__(self, input_file: Path) -> None:
        self._trainer = make_trainer(input_file)
        self._inputs, self._labels, _ = self._trainer.get_data(is_train=True)

    def step(self) -> None:
        """Make a step as the training does: the energy, then four groups of six atoms."""
        self._measure(self._trainer.optimizer)

    def passes(self) -> None:
        """Make the forward and backward passes of a step, and leave the filter out."""
        self._measure(_NoFilter(self._trainer.optimizer))

    def _measure(self, optimizer: Any) -> None:
        from deepmd.pt.optimizer import KFOptimizerWrapper

        wrapper = KFOptimizerWrapper(self._trainer.wrapper, optimizer, _ATOMS, _GROUP_SIZE)
        wrapper.update_energy(self._inputs, self._labels["energy"])
        wrapper.update_force(self._inputs, self._labels["force"])


class _NoFilter:
    """Stands in for LKFOptimizer and leaves weights and covariance alone."""

    def __init__(self, optimizer: Any) -> None:
        self.zero_grad = optimizer.zero_grad

    def set_grad_prefactor(self, factor: float) -> None:
        """Do nothing."""

    def step(self, error: Any) -> None:
        """Do nothing."""


def make_adam_step(input_file: Path) -> Callable[[], None]:
    """Return a step of the optimizer Adam as the training makes it, with the loading of its frame."""
    trainer = make_trainer(input_file)

    def step() -> None:
        trainer.optimizer.zero_grad(set_to_none=True)
        inputs, labels, _ = trainer.get_data(is_train=True)
        rate = trainer.scheduler.get_last_lr()[0]
        _, loss, _ = trainer.wrapper(**inputs, cur_lr=rate, label=labels, task_key="Default")
        loss.backward()
        trainer.optimizer.step()
        trainer.scheduler.step()

    return step


def make_trainer(input_file: Path) -> Any:
    """Return DeePMD-kit's own trainer."""
    from deepmd.pt.entrypoints.main import get_trainer
    from deepmd.utils.argcheck import normalize
    from deepmd.utils.compat import update_deepmd_input

    return get_trainer(normalize(update_deepmd_input(json.loads(input_file.read_text()))))


def settings(data: Path, optimizer: dict[str, Any], *, neighbours: int, steps: int) -> dict[str, Any]:
    """Return an input of DeePMD-kit with the model that ekfcore trains by default."""
    common = {"resnet_dt": False, "precision": "float64", "seed": 1}
    return {
        "model": {
            "type_map": ["Cu"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [neighbours],
                "rcut": 6.0,
                "rcut_smth": 0.5,
                "neuron": [25, 25, 25],
                "axis_neuron": 16,
                **common,
            },
            "fitting_net": {"type": "ener", "neuron": [50, 50, 50], **common},
        },
        "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 1e-3, "stop_lr": 1e-8},
        # its examples' prefactors; the filter has its own
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "optimizer": optimizer,
        "training": {
            "training_data": {"systems": [str(data)], "batch_size": 1},
            "numb_steps": steps,
            "save_freq": steps,
            "seed": 1,
        },
    }
