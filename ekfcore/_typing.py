"""Names for types that every module shares."""

from typing import Any, TypeAlias

__all__ = ["Array", "Namespace"]

# An array of any library that follows the Python Array API, and such a library.
# The standard has no static type yet (data-apis/array-api#229), so shapes and dtypes stand in docstrings.
Array: TypeAlias = Any
Namespace: TypeAlias = Any
