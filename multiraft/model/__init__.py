"""The nouns that both ends of a connection share: times, keys, descriptors, requests.

Everything here is pure: values in, values out. Byte formats that live here are pinned by golden
tests and described in docs/formats.md.
"""
