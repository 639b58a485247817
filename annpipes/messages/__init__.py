"""What people are told.

`reprs`      reprs that can be typed back
`showing`    text in a terminal and HTML in a notebook, of the same parts
`reporting`  what reports have in common
`brevity`    numbers to as many digits as people read
`progress`   how far long work is
`warning`    warnings at the line of the caller's own code
"""

from __future__ import annotations

__all__: list[str] = []
