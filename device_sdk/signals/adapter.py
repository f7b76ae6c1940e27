"""What the recorder has to know of a runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a runtime's module tells the recorder: names of inputs and outputs, and how to read errors and batches.

    A result is a sequence in the order of the outputs, or a mapping by their names. ``samples_of(feed, result)`` gets
    no result (None) when the run raised. ``classify`` returns an ``ErrorType``, for an unsupported operator followed by
    a space and the operator's name.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    classify: Callable[[BaseException | str], str]
    samples_of: Callable[[Mapping[str, Any], Sequence[Any] | Mapping[str, Any] | None], int]

    def by_name(self, asked: Sequence[str] | None, result: Sequence[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the results of a run that was asked for these outputs (None or empty: all) by name.

        Of nothing, and of an iterator, which would be used up before the host sees it, there are none.
        """
        if isinstance(result, Mapping):
            return result
        readable = isinstance(result, Iterable) and not isinstance(result, Iterator)
        return dict(zip(asked or self.outputs, result, strict=False)) if readable else {}
