"""Elements and rows of an array copied to their places, whatever holds them.

`pieces`        which bytes of which storage chunk go where
`targets`       the array that stretches are copied to
`decoding`      storage chunks read, decoded and copied in one compiled loop
`fetching`      storage chunks of remote sources, many by one request
`column_loops`  the same for chosen columns
`pools`         threads and memory that are used again
`elements`      an array read directly, or through its container
`fallback`      an array that only its container can decode
`cached`        an array read from a cache of its storage chunks
`slices`        slices of arrays that lie in memory as they are
`stretches`     an array read from end to end, around what is damaged
`scanning`      the numbers of an array looked at
"""

from __future__ import annotations

__all__: list[str] = []
