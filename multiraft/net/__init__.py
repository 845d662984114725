"""Framed connections between nodes, and from clients: TCP, TLS, or within one process.

A connection's life
    `Transport.connect` opens it and sends a Hello; the other end's acceptor answers with a Welcome
    or refuses with a Goodbye (handshake.py). From then on each end has a handler, to which frames
    are delivered in order (connection.py). Either end closes with a Goodbye that says why; or the
    connection breaks, and each handler is told.

What is where
    transport.py    the protocols and the structs of the handshake: all that others need to know
    frames.py       bytes to frames and back; pure
    handshake.py    Hello, Welcome, Goodbye: packing, checks, refusals; pure
    addresses.py    "host:port"; pure
    connection.py   one end: dispatch and ending, whatever carries the frames
    sides.py        the accepting and the connecting side of a handshake, and the limits on both
    tcp.py          the carrier on sockets; listening.py binds and tunes them, tls.py secures them
    inproc.py       the carrier within one process and event loop, with links that can be hurt

Caveats
    A frame that was sent may be lost if the connection breaks, and the sender is not told which.
    Whoever needs an answer waits for one, with a deadline.
"""
