"""What the user says about a file that the file itself does not say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from ekfcore.errors import InputError

__all__ = ["ReadOptions"]

_FOR_ALL = ("format", "elements")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What `read_frames` takes beside the path; it describes each field."""

    format: str | None = None
    type_map: Sequence[str] | Mapping[str, str] | None = None
    elements: Sequence[str] | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    virial_key: str | None = None
    stress_key: str | None = None
    weight_key: str | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    keep_unconverged: bool = False

    def key(self, quantity: str) -> str | None:
        """Return what the user calls a quantity, such as ``"energy"``, in the file."""
        name: str | None = getattr(self, f"{quantity}_key")
        return name

    def only(self, source: str, kind: str, *names: str) -> None:
        """Refuse what cannot be honoured for a kind of file.

        Parameters
        ----------
        source : str
            The file.
        kind : str
            What it is, as in ``"a folder of DeePMD-kit"``.
        *names : str
            The fields that mean something there.

        Raises
        ------
        InputError
            If another is set.
        """
        for field in fields(self):
            if field.name not in (*_FOR_ALL, *names) and getattr(self, field.name) != field.default:
                raise InputError(f"{source}: {field.name} has no meaning for {kind}; remove it")
