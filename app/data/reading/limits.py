"""Caps that keep a hostile or broken file from costing memory or time.

Each is far above what an honest file holds and far below what hurts: a check of a hostile file has to end
within five seconds and half a gigabyte.
"""

from __future__ import annotations

# A row longer than this is no training example: 4 Mi characters are about a million tokens.
MAX_ROW_CHARS = 4 * 1024 * 1024
# Text seldom packs better than 20:1; deflate cannot exceed 1032:1, and bombs come close to that.
MAX_ARCHIVE_RATIO = 200
# The ratio counts only once this much came out, so that small repetitive samples pass.
RATIO_GRACE_BYTES = 1024 * 1024
# Tapes pad gzip files to blocks of at most 256 KiB.
MAX_PADDING_BYTES = 1024 * 1024
PACKED_BYTES = 64 * 1024
MAX_ARCHIVE_MEMBERS = 10_000
# Column files need random access; one in an archive is unpacked to disk, up to this size.
MAX_UNPACKED_BYTES = 4_000_000_000
MAX_COLUMNS = 10_000
# A sheet is laid out in memory, some 64 bytes a cell from the first to the last that holds something, and its texts.
MAX_SHEET_CELLS = 4_000_000
MAX_SHEET_TEXT = 128_000_000
# The text of a document: a long novel has some 10 MB of markup. This much is parsed in a few seconds.
MAX_MARKUP_BYTES = 200_000_000
# Tool schemas nest about 10 deep. Python's own JSON parser gives up near 1,000.
MAX_DEPTH = 100
# Quotes and brackets that are passed over in search of a broken row's end: about 2 s of work.
MAX_SKIPPED_MARKS = 3_000_000
# Each unreadable value of a JSON file costs a search for its end; so many without a good one between are no JSON.
MAX_BROKEN_VALUES = 1000
# A quoted CSV cell may span lines, but an open quote must not swallow the file.
MAX_QUOTED_LINES = 10_000
CHUNK_BYTES = 1024 * 1024
SNIFF_BYTES = 256 * 1024
