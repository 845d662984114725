"""What looks at more than one store: who the nodes are, and where replicas should be.

    joining           a new store asks for an identity in a cluster that runs
    registry          new nodes get an ID and are written down
    allocator         which nodes should keep a range; pure
    replicate_queue   a leader brings its ranges to the wanted number of voters
    disk_guard        a node whose disk is nearly full lets others lead, then refuses writes
    replica_gc        a replica that was removed while its store was away is found and destroyed

All of it acts through the same administrative requests that a person would send.
"""
