"""Types of fields that several tables of settings share."""

from typing import Annotated

from pydantic import Field

__all__ = ["Count", "NotNegative", "Pair", "Positive"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
