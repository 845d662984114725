"""The database as one store sees it: ranges, their replicas, and the turn that drives them.

The life of a write, by file
    service       a frame of requests arrives on a client's connection
    store         finds the replica of the range that the request names
    put_group     puts that come together are evaluated together; all else goes on one by one
    pending       the request until it is answered: it takes latches, and waits for locks
    leaseholder   checks that the write is new, gives it a timestamp, evaluates it
    commands/     turns operations into effects; pure
    joining       makes one command of those that are proposed in one turn
    proposals     remembers who waits for which log index
    replica       carries out what the Raft core wants, applies what is committed
    turns, turn   one engine batch, one sync, one frame per peer for all ranges together
    leaseholder   releases the latches and answers

`transactions` does the same with what transactions ask; `pushes`, `deadlocks`, `recovery` and
`resolver` work for those who wait for them, `garbage` and `leftovers` clean up behind them.

Beside it: `admin` takes administrative requests; `split`, `membership` and `triggers` change what a
range is; `truncation` shortens its log, and `snapshot` brings a follower up that this can no longer
serve; `addressing` keeps meta up with the descriptors, `commits_owed` has followers told what no
append told them, `held` keeps messages that came before the split they belong to, `bootstrap`
writes what a cluster begins with.

What keeps many ranges, and many clients, from getting in each other's way: `ticking`, `elections`,
`slices` and `inbox`; `admission`, `unread` and `shared_limit`.
"""
