"""A rewrite that can be killed at any time: ``rewrite.py FILE OUTPUT MEMORY``."""

from __future__ import annotations

import sys

from annpipes import rewrite_shuffled

if __name__ == "__main__":
    source, output, memory = sys.argv[1:]
    rewrite_shuffled(source, output, memory=memory)
