"""What one device contributes to one distribution in one window: not less than a minimum, not more than a clip."""

from __future__ import annotations

import numpy as np

from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import LossReason, PrivacyReason
from device_sdk.points import AttributePairs, Points
from device_sdk.privacy.account import Account
from device_sdk.privacy.distributions import Distribution, split
from device_sdk.privacy.policy import Policy
from device_sdk.privacy.randomised import Randomiser


class Contribution:
    """Holds back distributions that are too small until they are large enough, and thins those that are too large.

    What is held is carried on to a later window. At the end of a session it is given up and counted as lost for reason
    ``privacy``: sending it would break the minimum.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        randomiser: Randomiser | None = None,
        random: np.random.Generator | None = None,
    ) -> None:
        self._policy = policy
        self._randomiser = randomiser
        self._random = random or np.random.default_rng()
        self._held: dict[tuple[str, AttributePairs], Distribution] = {}

    def window(self, points: Points, account: Account, *, last: bool) -> Points:
        """Return what of a window is sent now; ``last`` says that no later window will come."""
        if not self._policy.active:
            return points
        sent, distributions = split(points)
        ready = [joined for found in distributions if (joined := self._joined(found)) is not None]
        bounded = [self._bounded(distribution, account) for distribution in ready]
        if self._randomiser is not None:
            self._randomiser.window(bounded, sent, account)
        else:
            for distribution in bounded:
                distribution.add_to(sent)
        if last:
            account.measurements_lost(LossReason.PRIVACY, sum(held.total for held in self._held.values()))
            self._held.clear()
        if self._policy.min_count > 1:
            sent.add(m.PRIVACY_HELD.name, sum(held.total for held in self._held.values()))
        return sent

    def _joined(self, distribution: Distribution) -> Distribution | None:
        """Return a distribution with what was held of it before, None while both are still too few."""
        key = (distribution.metric, distribution.identity)
        held = self._held.pop(key, None)
        joined = held.plus(distribution) if held is not None else distribution
        if joined.total < self._policy.min_count:
            self._held[key] = joined
            return None
        return joined

    def _bounded(self, distribution: Distribution, account: Account) -> Distribution:
        most, total = self._policy.reports_max, distribution.total
        if most is None or total <= most:
            return distribution
        account.refused(str(PrivacyReason.OVER_CLIP), total - most)
        return distribution.thinned(most, self._random)
