"""Support between stores: what replaces heartbeats of groups.

Every store asks every peer, a few times a second, to support it for a second ahead. A Raft group
holds a reference to that: a follower whose store supports its leader's store votes for nobody
else, and a leader may serve until the earliest end of the support it has from a quorum. So an idle
group needs no message and no timer, and the cost is a function of the pairs of stores.

The life of one grant: `heartbeats.Liveness` ticks; `support.Support` decides to ask until U;
`records` puts U on disk; after the sync the request leaves; the peer records its grant, syncs, and
replies; only then does `support_from` count it. When the asker falls silent, the peer waits until
its own clock has passed U, records a higher epoch, syncs, and tells its groups.

Use `heartbeats.Liveness`; `support` and `offsets` are pure and know no clock.
"""
