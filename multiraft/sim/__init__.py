"""Deterministic simulation: the whole cluster in one process, on virtual time, from one seed.

Everything above the four seams of the design (clock, randomness, transport, engine) is the
production code. `loop` is the event loop whose time is a number, `process` says whose a callback
is, `cluster` builds real nodes on memory engines and an in-process network, `network` and `clock`
say how links and clocks misbehave, `wiretap` hears what stores say to each other, `inspection`
looks at all nodes at once, `observer` notes in a `trace` what they do. `invariants` are what must
always hold, `probes` what should sometimes happen.
"""
