"""Names of files and classes as text that can be shown."""


def displayable(text: str) -> str:
    """Return text in which bytes that are not UTF-8 and control characters are replaced by U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def figure_text(text: str) -> str:
    """Return text for a figure of matplotlib, for which dollars would enclose formulas; lines are kept."""
    return "\n".join(displayable(line) for line in text.split("\n")).replace("$", r"\$")
