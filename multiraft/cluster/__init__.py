"""What looks at nodes as wholes: who they are, where replicas should be, what they are doing.

    joining           a new store asks for an identity in a cluster that runs
    registry          new nodes get an ID and are written down
    diversity         how near to each other nodes are, by their localities; pure
    allocator         which nodes should keep a range; pure
    placement         which ranges' voters are too near to each other, and why they stay so
    replicate_queue   a leader brings its ranges to the wanted voters, in the best places
    disk_guard        a node whose disk is nearly full lets others lead, then refuses writes
    replica_gc        a replica that was removed while its store was away is found and destroyed
    garbage_queue     a leader has the garbage of its ranges collected
    settled           Python's garbage collector passes by what has lived long
    node_status       what a node tells of itself
    profile           what a node spends its time on, by stages
    instruments       the methods of those stages, timed while somebody looks
    stalls            when the loop of a process stood still, and what it did then

What changes something acts through the same administrative requests that a person would send.
"""
