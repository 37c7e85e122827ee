"""Files that are written whole or not at all."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write `data` to the file `path`, a string as UTF-8 with its line ends as they are.

    The bytes go to a new file in the same folder, which then takes the place of `path`. After an
    error (a full disk, Ctrl-C) no new file is left, and what was at `path` is unchanged. A symbolic
    link stays a link, and permissions stay as they were. What is not a regular file, such as
    /dev/stdout, is written to directly.

    Raises OSError if the folder is missing or cannot be written to, and UnicodeEncodeError, before
    anything is written, for a string that is not valid Unicode.
    """
    content = data.encode() if isinstance(data, str) else data
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    # A name of constant length, since that of `path` may be as long as a name can be.
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(content)
        with suppress(FileNotFoundError):
            partial.chmod(target.stat().st_mode & 0o7777)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
