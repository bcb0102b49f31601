"""A Celery request that survives a failed acknowledgement, and that reports how a child was lost.

With late acknowledgement, a task that ends while the broker is away cannot be acknowledged. kombu (5.7) logs that, but
goes on counting the message as unacknowledged: with every child so, the prefetch window stays full, the worker
never asks the broker for anything again, never notices that the connection is gone, and never reconnects. Here the
message is taken off that count. What became of the task is in the database; recovery queues again what is unfinished.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request as CeleryRequest
from kombu.message import Message
from kombu.transport.virtual.base import QoS

from worker.runtime.isolated_process import how_it_died

_HOW = re.compile(r"signal \d+ \(\w+\)|exitcode -?\d+")  # of billiard's message


class Request(CeleryRequest):
    """Celery's request; a message whose acknowledgement failed no longer counts as unacknowledged.

    Attributes
    ----------
    on_lost
        Called, in the worker's parent process, with the ids of a task whose child died or was killed, and how.
    """

    on_lost: ClassVar[Callable[[Sequence[int], str], None] | None] = None

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._report(why_stopped(self.worker_pid, timeout))
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, WorkerLostError):
            how = _HOW.search(str(error))
            self._report(f"its process died: {how[0] if how else 'nobody knows how'}")
        super().on_failure(exc_info, send_failed_event, return_ok)

    def _report(self, how: str) -> None:
        on_lost = type(self).on_lost
        if on_lost is not None and self.args:
            on_lost(self.args[0], how)

    def acknowledge(self) -> None:
        super().acknowledge()
        _take_off_the_count(self.message)

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue=requeue)
        _take_off_the_count(self.message)


def why_stopped(pid: int, timeout: float) -> str:
    """Say why a task whose time is over did not end: it hung, or its child died and the pool has not noticed.

    Celery's pool (5.6) misses the end of some children, and then looks for the dead every five seconds only.
    """
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # the pool collects it after us
    except (ChildProcessError, AttributeError):  # it was collected already; there is no waitid here
        end = None
    if end is None:
        return f"it did not end within {timeout:g} s, so its process was stopped"
    return f"its process died: {how_it_died(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)}"


def _take_off_the_count(message: Message) -> None:
    if not message.acknowledged:
        QoS.ack(message.channel.qos, message.delivery_tag)  # the transport's own count alone; the broker is not asked
