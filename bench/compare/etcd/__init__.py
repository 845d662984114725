"""etcd: its cluster, its requests, and clients that cost little."""
