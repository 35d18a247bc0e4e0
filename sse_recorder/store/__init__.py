"""What was recorded, on disk.

journal    the crash-safe file that a recorder appends to
segment    where files are; journals made into Parquet files; journals read back
recovery   what a crash left, and what is done about it
store      a folder of recordings, or a cassette, opened for reading
cassette   exchanges as text, for tests and reviews
"""
