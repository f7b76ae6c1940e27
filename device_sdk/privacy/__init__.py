"""What stands between the aggregates and the encoder: only what the contract names, and less where a policy says so."""

from device_sdk.privacy.account import Account
from device_sdk.privacy.gate import Gate
from device_sdk.privacy.policy import Policy
from device_sdk.privacy.randomised import require_opendp
from device_sdk.privacy.resource import FLAGS_MAX, AttributeValue, allowed_resource, sendable_names
from device_sdk.privacy.schema import is_text

__all__ = [
    "FLAGS_MAX",
    "Account",
    "AttributeValue",
    "Gate",
    "Policy",
    "allowed_resource",
    "is_text",
    "require_opendp",
    "sendable_names",
]
