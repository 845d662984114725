"""What looks at nodes as wholes: who they are, where replicas should be, what they are doing.

    joining           a new store asks for an identity in a cluster that runs
    registry          new nodes get an ID and are written down
    allocator         which nodes should keep a range; pure
    replicate_queue   a leader brings its ranges to the wanted number of voters
    disk_guard        a node whose disk is nearly full lets others lead, then refuses writes
    replica_gc        a replica that was removed while its store was away is found and destroyed
    node_status       what a node tells of itself
    profile           what a node spends its time on, by stages
    instruments       the methods of those stages, timed while somebody looks

What changes something acts through the same administrative requests that a person would send.
"""
