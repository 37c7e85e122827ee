"""Names from files of strangers, made safe to show."""


def printable(text: str) -> str:
    """Text without what a terminal would obey, a page could not encode, or a reader could not see.

    Control characters, direction marks and lone surrogates become escapes; line ends stay.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
