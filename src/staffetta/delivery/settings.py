"""What the trade of delivery must be told. The configuration file is somebody else's business."""

from __future__ import annotations

import msgspec

from staffetta.policy.retry import RetrySettings


class DeliverySettings(msgspec.Struct, frozen=True):
    """Settings that hold for every destination.

    `connections` is the default per destination; a route may set its own.
    `total_connections` bounds outgoing connections of the whole relay, so that descriptors are left for the doors.
    """

    retry: RetrySettings
    connections: int = 20
    total_connections: int = 400
    ready_limit: int = 1000
    ready_per_destination: int = 50
    idle_seconds: float = 5.0
    drain_seconds: float = 25.0
    recipients_per_transaction: int = 100
