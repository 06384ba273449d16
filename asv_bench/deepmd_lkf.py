"""DeePMD-kit's side of the comparison: its update, its training step, its training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["hide_library", "make_step", "make_trainer", "make_update", "settings"]

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


def make_step(input_file: Path) -> Callable[[], None]:
    """Return a step as the training makes it: the energy, then four groups of six atoms."""
    from deepmd.pt.optimizer import KFOptimizerWrapper

    trainer = make_trainer(input_file)
    optimizer = KFOptimizerWrapper(trainer.wrapper, trainer.optimizer, _ATOMS, _GROUP_SIZE)
    inputs, labels, _ = trainer.get_data(is_train=True)

    def step() -> None:
        optimizer.update_energy(inputs, labels["energy"])
        optimizer.update_force(inputs, labels["force"])

    return step


def make_trainer(input_file: Path) -> Any:
    """Return DeePMD-kit's own trainer."""
    from deepmd.pt.entrypoints.main import get_trainer
    from deepmd.utils.argcheck import normalize
    from deepmd.utils.compat import update_deepmd_input

    return get_trainer(normalize(update_deepmd_input(json.loads(input_file.read_text()))))


def settings(data: Path, *, neighbours: int, block_size: int, steps: int) -> dict[str, Any]:
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
        "loss": {"type": "ener", "start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": 1.0, "limit_pref_f": 1.0},
        "optimizer": {"type": "LKF", "kf_blocksize": block_size},
        "training": {
            "training_data": {"systems": [str(data)], "batch_size": 1},
            "numb_steps": steps,
            "save_freq": steps,
            "seed": 1,
        },
    }
