"""Record live event streams, replay them at their true pace, query where time went."""

__version__ = "0.1.0"
