"""Tables of settings that have a table ``[model]``, whose keys depend on the kind of model."""

from functools import cache
from typing import Any, TypeVar

from pydantic import Field, create_model, field_validator

from ekfcore.models.settings import PotentialSettings
from ekfcore.settings.table import Table

from .registry import settings_for

__all__ = ["WithModel", "default_model"]

_T = TypeVar("_T", bound="WithModel")


def default_model() -> PotentialSettings:
    """Return the default of the table ``[model]``."""
    return settings_for({}).model_validate({})


class WithModel(Table):
    """Base of tables with a field ``model: SerializeAsAny[PotentialSettings]``.

    When a file is read, the class for its kind of model is chosen first, so that errors in the table ``[model]`` name
    the key and its rule, as for all other tables.
    """

    @classmethod
    def for_data(cls: type[_T], data: dict[str, Any]) -> type[_T]:
        """Return this class with the table ``[model]`` of the kind of model in the data."""
        table = data.get("model")
        return _made_for(cls, settings_for(table if isinstance(table, dict) else {}))

    @field_validator("model", mode="before", check_fields=False)
    @classmethod
    def _of_its_kind(cls, table: Any) -> Any:
        known = cls.model_fields["model"].annotation is not PotentialSettings
        return table if known or not isinstance(table, dict) else settings_for(table).model_validate(table)


@cache
def _made_for(table: type[_T], kind: type[PotentialSettings]) -> type[_T]:
    return create_model(
        table.__name__, __base__=table, __module__=table.__module__, model=(kind, Field(default_factory=kind))
    )
