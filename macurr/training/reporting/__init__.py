"""The report of a run: what its directory says, drawn and told on one page that opens anywhere.

`record` reads the directory, `series` and `words` make numbers readable, `svg`, `charts` and `marks` draw, `films` and
`pictures` film matches, the sections (`headline`, `learning`, `rivals`, `teams`, `levels`, `teaching`, `members`,
`machine`, `settings`) say what is to be seen, and `page` puts it all into one file.
"""

from __future__ import annotations

__all__: list[str] = []
