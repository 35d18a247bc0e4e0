"""`demo`: the whole thing in a quarter of a minute, offline."""

COMMANDS = ()
