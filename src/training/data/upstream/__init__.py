"""Upstream's data functions over the webdataset library, for programs that import them and for --shard-order buffer.

The rows of the trainer's own loaders come by position; here they come as a stream. Nothing outside reads these files.
"""
