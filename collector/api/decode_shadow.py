"""OTLP metrics classes that leave attributes, resource and scope undecoded.

Derived from opentelemetry-proto's own descriptors by declaring those fields ``repeated bytes``, which is the same on
the wire (several occurrences of a singular message are one message when concatenated). Python then pays once per
distinct attribute list instead of once per point; everything numeric stays as the stock classes parse it, packed or
not.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.metrics.v1 import metrics_pb2

_PACKAGE: Final = "opentelemetry.proto.metrics.v1"
_SHADOW_PACKAGE: Final = "fleetpulse.shadow.metrics.v1"
_OPAQUE: Final = frozenset({"attributes", "filtered_attributes", "resource", "scope", "exemplars", "metadata"})


def _shadow_request_class() -> Any:
    """Return the shadow of ``ExportMetricsServiceRequest`` (field for field the same as ``MetricsData``)."""
    file = descriptor_pb2.FileDescriptorProto()
    metrics_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "fleetpulse/shadow/metrics.proto"
    file.package = _SHADOW_PACKAGE
    del file.dependency[:]
    for message in file.message_type:
        for field in message.field:
            if field.name in _OPAQUE:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
                field.ClearField("type_name")
            elif field.type_name:
                field.type_name = field.type_name.replace(f".{_PACKAGE}.", f".{_SHADOW_PACKAGE}.")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_SHADOW_PACKAGE}.MetricsData"))


MetricsRequest: Final = _shadow_request_class()
"""``MetricsRequest.FromString(body)`` raises protobuf's ``DecodeError``."""
