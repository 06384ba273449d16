"""What torchrun or srun says of the processes that it starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ekfcore.errors import InputError

__all__ = ["Launch", "find_launch"]

_PORT, _PORTS = 20_000, 12_000  # of the jobs of a queue system, below those that Linux gives away, from 32 768 on
_STRIDE = 101  # ports for the steps of a job, which may run at a time; a prime, so that 12 000 jobs in a row differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Place of this process among those of a run.

    Parameters
    ----------
    rank, size, local_rank : int
        Number of this process among all, their number, and its number on this machine.
    address : str
        Where rank 0 listens.
    port : int
        Port there.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """Return the place of this process, or None if it runs by itself.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of the process: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them; else
        those of srun.

    Raises
    ------
    InputError
        If a variable is no such number, or one of them is missing.

    Examples
    --------
    >>> find_launch({}) is None
    True
    >>> found = find_launch({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "node[04-07]"})
    >>> found.rank, found.size, found.address
    (3, 8, 'node04')
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif _in_a_step(environment):
        names = ("SLURM_PROCID", _tasks(environment), "SLURM_LOCALID")
    else:
        return None
    size = _number(environment, names[1], at_least=1)
    rank = _number(environment, names[0], below=size)
    local_rank = _number(environment, names[2]) if names[2] in environment else 0
    address = environment.get("MASTER_ADDR") or _first_node(environment)
    port = _number(environment, "MASTER_PORT", below=2**16) if "MASTER_PORT" in environment else _own_port(environment)
    return Launch(rank=rank, size=size, local_rank=local_rank, address=address, port=port)


def _in_a_step(environment: Mapping[str, str]) -> bool:
    """Return whether srun has started several tasks, of which this is one."""
    if "SLURM_PROCID" not in environment or environment.get(_tasks(environment), "1") == "1":
        return False
    # The script of a job sees the same variables without being one of its tasks: it would wait for the others forever.
    return "SLURM_STEP_ID" in environment or "SLURM_JOB_ID" not in environment


def _tasks(environment: Mapping[str, str]) -> str:
    """Return the variable with the number of tasks: in the shell of salloc, SLURM_NTASKS is that of steps to come."""
    return "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"


def _own_port(environment: Mapping[str, str]) -> int:
    """Return a port that no other step of this job or its neighbours has: the ranks of two would meet each other."""
    job, step = (_number(environment, name) if name in environment else 0 for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _PORT + (_STRIDE * job + step) % _PORTS


def _number(environment: Mapping[str, str], name: str, *, at_least: int = 0, below: int | None = None) -> int:
    text = environment.get(name, "")
    if not text.isdecimal() or int(text) < at_least or (below is not None and int(text) >= below):
        limits = f"of at least {at_least}" + ("" if below is None else f" and below {below}")
        raise InputError(
            f"{name} in the environment must be an integer {limits}, got {text!r}; start the processes with torchrun "
            "or srun, which set it"
        )
    return int(text)


def _first_node(environment: Mapping[str, str]) -> str:
    """Return the machine of rank 0, the first of a list as ``node[04-07,9],gpu1``; this one without a list."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or "127.0.0.1"
    found = re.fullmatch(r"([^,\[\]]+)(?:\[(\d+)[^\]]*\])?(?:,.*)?", nodes)
    if found is None:
        raise InputError(f"the first of the machines {nodes} cannot be told; set MASTER_ADDR to the one of rank 0")
    return found[1] + (found[2] or "")
