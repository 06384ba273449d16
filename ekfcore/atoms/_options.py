"""Options of the user on a file, beside what the file itself contains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from ekfcore.errors import InputError

__all__ = ["ReadOptions"]

_FOR_ALL = ("format", "elements")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Parameters of `read_frames` beside the path; see there for each field."""

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
        """Return the name that the user gave for a quantity, such as ``"energy"``, in the file."""
        name: str | None = getattr(self, f"{quantity}_key")
        return name

    def only(self, source: str, kind: str, *names: str) -> None:
        """Refuse options that do not apply to a kind of file.

        Parameters
        ----------
        source : str
            Name of the file in messages.
        kind : str
            Kind of file, as in ``"data of DeePMD-kit"``.
        *names : str
            Fields that apply to this kind.

        Raises
        ------
        InputError
            If another field is set.
        """
        for field in fields(self):
            if field.name not in (*_FOR_ALL, *names) and getattr(self, field.name) != field.default:
                raise InputError(f"{source}: {field.name} has no meaning for {kind}; remove it")
