"""Decoded storage chunks kept on a local disk, so that later epochs read them like an uncompressed file.

`settings`  the folder and its size, as a caller gives them
`cached`    what is kept of one array, and what this process knows of it
`files`     the files of one array: raw bytes with holes, and a table of what is there
`budgets`   how much more a folder may take
`loops`     storage chunks written and read back in compiled loops
`contents`  what a folder holds, and its removal
"""

from __future__ import annotations

__all__: list[str] = []
