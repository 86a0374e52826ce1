"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
from attrs import validators

__all__ = ["Backoff"]


@attrs.frozen(kw_only=True)
class Backoff:
    """Exponential, with a cap and full jitter.

    Before attempt n (from 0) the pause is drawn evenly from 0 to `min(longest, first * 2**n)`. The
    whole range is drawn from, since a broker that restarts loses all its clients at one moment:
    what keeps them from coming back at one moment is the spread, not the length.

    Attributes:
        first: seconds; the pause before the first attempt is at most this long.
        longest: seconds; no pause is longer. A connection that has stood for as long is taken for
            a sound one, so that the next loss begins with short pauses again.
        random: draws from [0, 1); for tests.

    Raises:
        ValueError: `first` is not more than nothing, or `longest` is less than `first`.

    Example:
        >>> connect(url, token="...", reconnect=Backoff(first=0.1, longest=5))
    """

    first: float = attrs.field(default=0.5, validator=validators.gt(0))
    longest: float = attrs.field(default=30.0)
    random: Callable[[], float] = random.random

    @longest.validator
    def _check_longest(self, _attribute: object, value: float) -> None:
        if value < self.first:
            raise ValueError(f"longest: {value} s is less than first, {self.first} s")

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait before an attempt, counted from 0."""
        # Past so many doublings any cap has been reached; the power itself must stay a float.
        return self.random() * min(self.longest, self.first * 2.0 ** min(attempt, 64))
