"""Which rank a process is, by what torchrun and srun tell it."""

import pytest

from ekfcore.distributed.launch import Launch, find_launch
from ekfcore.errors import InputError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}
SRUN = {"SLURM_PROCID": "2", "SLURM_NTASKS": "3"}


def test_torchrun() -> None:
    """Its own variables, also inside a job of Slurm."""
    expected = Launch(rank=1, size=4, local_rank=1, address="host", port=29500)
    assert find_launch(TORCHRUN) == expected
    assert find_launch(TORCHRUN | SRUN | {"SLURM_JOB_ID": "5"}) == expected


def test_srun() -> None:
    """All ranks find the same place to meet."""
    assert find_launch(SRUN) == Launch(rank=2, size=3, local_rank=0, address="127.0.0.1", port=20000)
    step = SRUN | {"SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "1"}
    found = find_launch(step | {"SLURM_STEP_NODELIST": "a[07-08]"})
    assert found == Launch(rank=2, size=3, local_rank=1, address="a07", port=20000 + 101 * 123456 % 12000)


def test_ports_of_steps() -> None:
    """Steps that run at a time on one machine meet at ports of their own, which Linux does not give away."""
    places = [{"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)} for job in range(900, 1900) for step in range(20)]
    ports = [found.port for place in places if (found := find_launch(SRUN | place))]
    assert len(ports) == 20_000
    assert len(set(ports[:2000])) == 2000  # a hundred jobs with all their steps
    assert len(set(ports[::20])) == 1000  # a thousand with one each
    assert min(ports) >= 20_000
    assert max(ports) < 32_768  # where net.ipv4.ip_local_port_range begins


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("a-b[3,5-9],c", "a-b3"), ("x[001-128]", "x001"), ("gpu7,x[1-2]", "gpu7")],
)
def test_first_of_the_machines(nodes: str, first: str) -> None:
    """In Slurm's short form; an address that was given counts more."""
    found = find_launch(SRUN | {"SLURM_STEP_NODELIST": nodes})
    assert found is not None
    assert found.address == first
    given = find_launch(SRUN | {"SLURM_STEP_NODELIST": nodes, "MASTER_ADDR": "there"})
    assert given is not None
    assert given.address == "there"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
        SRUN | {"SLURM_JOB_ID": "7"},
        {"SLURM_NTASKS": "4"},
        SRUN | {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_by_itself(environment: dict[str, str]) -> None:
    """Scripts of jobs and shells of salloc see the number of tasks, too, and would wait for the others forever."""
    assert find_launch(environment) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"RANK": "x"}, "RANK in the environment must be an integer of at least 0 and below 4, got 'x'"),
        ({"RANK": "4"}, "below 4, got '4'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE in the environment must be an integer of at least 1, got '0'"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT in the environment must be .* below 65536, got '99999'"),
    ],
)
def test_variables_that_cannot_be(wrong: dict[str, str], told: str) -> None:
    """One line with the name of the variable."""
    with pytest.raises(InputError, match=told):
        find_launch(TORCHRUN | wrong)


def test_a_list_that_cannot_be_read() -> None:
    """It asks for the address."""
    with pytest.raises(InputError, match=r"set MASTER_ADDR to the one of rank 0"):
        find_launch(SRUN | {"SLURM_STEP_NODELIST": "rack[1-2]n[3-4]"})
