"""Text for terminals, which would obey what is not seen in it."""

from rich.style import Style
from rich.text import Text as RichText

from core.names import visible


class Text(RichText):
    """Text as it is, of which a terminal takes nothing as an order or as markup."""

    def __init__(self, text: str = "", style: str | Style = "") -> None:
        """Take text from anywhere, and how it looks."""
        super().__init__(visible(text), style)
