"""The stock over gRPC, for programs that reserve and release at a high rate. Optional: the extra `grpc`.

`proto/` holds what is promised (`tally.inventory.v1`) and what is generated from it; the same commands as everywhere
are behind it.
"""
