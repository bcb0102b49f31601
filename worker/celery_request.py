"""A Celery request whose acknowledgement may fail without making the worker deaf.

With late acknowledgement, a task that ends while the broker is away cannot be acknowledged. kombu (5.7) logs that, but
goes on counting the message as unacknowledged: with every child so, the prefetch window stays full, the worker
never asks the broker for anything again, never notices that the connection is gone, and never reconnects. Here the
message is taken off that count. What became of the task is in the database; the sweep rings for what is unfinished.
"""

from __future__ import annotations

from celery.worker.request import Request as CeleryRequest
from kombu.message import Message
from kombu.transport.virtual.base import QoS


class Request(CeleryRequest):
    """Celery's request; a message that the broker could not be told about no longer takes a place."""

    def acknowledge(self) -> None:
        super().acknowledge()
        _take_off_the_count(self.message)

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue=requeue)
        _take_off_the_count(self.message)


def _take_off_the_count(message: Message) -> None:
    if not message.acknowledged:
        QoS.ack(message.channel.qos, message.delivery_tag)  # the transport's own count alone; the broker is not asked
