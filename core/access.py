"""What somebody may have the engine do: made where they come in, passed on, and asked for inside of each action."""

from dataclasses import dataclass
from typing import Literal, get_args

from core.errors import AccessError

Action = Literal["see", "start", "stop", "import", "delete", "label", "measure", "share"]

SAID: dict[Action, str] = {
    "see": "see the runs",
    "start": "start jobs",
    "stop": "stop jobs",
    "import": "take in bundles",
    "delete": "put runs in the bin or take them out",
    "label": "write tags and notes",
    "measure": "ask for maps, comparisons and checks",
    "share": "write reports and bundles",
}


@dataclass(frozen=True)
class Access:
    """What one may do; what is not named is denied.

    Attributes:
        who: Whose it is, for messages.
        may: The actions.
    """

    who: str
    may: frozenset[Action] = frozenset()

    def require(self, action: Action) -> None:
        """Raise AccessError unless the action is allowed."""
        if action not in self.may:
            raise AccessError(
                f"{self.who} may not {SAID[action]}. Open the studio by the address, with its token, that is in the "
                "terminal that ran 'manifold serve', or use the command line of the account that owns the database."
            )


OWNER = Access("The owner of the database", frozenset(get_args(Action)))
"""Of whoever can write the database's file, as the command line and workers do, and of browsers with the token."""

NOBODY = Access("Whoever has no token")
