"""What a store keeps on its disk: the engine, the logs of all ranges, and who the store is.

From the bottom: `engine` is the contract, `rocks` and `memory` fulfil it. `layout` says where
things are in the `data` family; `raft_log` keeps the logs in `raft`; `identity` names the store.
`directory`, `watermark`, `durable_file` and the other `rocks_*` serve `rocks`; `syncer` serves both
engines. docs/architecture/storage.md tells the story.
"""
