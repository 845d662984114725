"""The database as an application sees it; nodes are clients of each other too.

Life of one request
    `database` turns the application's keys and values into operations. `router` cuts them into
    parts, one per range (`routing`), finds range and leader in `range_cache`, and sends each part
    over the node's connection (`connections`), where all parts of one loop iteration share a frame.
    A good reply resolves the call's future: one future and no task per request. Whatever else
    happens is the business of `pursuit`: it looks ranges up (`addressing`), tries other replicas,
    waits and sends again; `calls` keeps the books on attempts and says when an outcome is certain.
    `scan` reads page by page at one timestamp. `admin` is for operators; `blocking` is the same
    without asyncio.

Transactions
    The client coordinates them: `transaction`, a package with a story of its own.

Caveats
    A batch is atomic per range only; what spans ranges is a transaction. A deadline that passes
    while a write is under way leaves its outcome open, and says so (OutcomeUnknownError).
"""
