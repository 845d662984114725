"""Times in the past as applications give them, and what the cluster calls them.

A moment is a `datetime` with a time zone, a `timedelta` before now, or a timestamp of the cluster,
as a read or an error told it. The cluster's clocks decide when that was, not the client's.
"""

from datetime import UTC, datetime, timedelta

from multiraft import errors
from multiraft.client.router import Router
from multiraft.ids import Timestamp, show_time
from multiraft.model import hlc

Moment = datetime | timedelta | int

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def resolve(router: Router, moment: Moment) -> Timestamp:
    """Return the timestamp of a moment.

    Raises RequestError if it lies in the future, by more than the cluster's clocks may differ, or
    makes no sense; NodeUnavailableError if no node tells the time.
    """
    await router.connections.refresh()
    now = router.cluster_time()
    if isinstance(moment, timedelta):
        timestamp = now - hlc.from_us(1) * (moment // _MICROSECOND)
    elif isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise errors.RequestError(
                f"{moment} has no time zone; say which: moment.astimezone() is the local one"
            )
        timestamp = hlc.from_us(1) * ((moment - _EPOCH) // _MICROSECOND)
    elif type(moment) is int:
        timestamp = moment
    else:
        raise errors.RequestError(
            f"a moment is a datetime, a timedelta before now or a timestamp, not "
            f"{type(moment).__name__}"
        )
    if timestamp <= 0:
        raise errors.RequestError("a moment must lie after 1970")
    if timestamp > now + hlc.from_ms(router.settings.issued_at_margin_ms):
        raise errors.RequestError(
            f"the future cannot be read: it is {show_time(now)}"
            + (f", not yet {show_time(timestamp)}" if timestamp <= hlc.MAX else "")
        )
    return Timestamp(timestamp)
