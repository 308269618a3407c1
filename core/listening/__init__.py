"""How a job hears its speech: what the teachers say of it, what they write, and what their layers hold.

`Live` runs the teachers. `Kept` asks a cache first, and runs them for what is not there.
"""

from core.listening.kept import Kept
from core.listening.live import Listening, Live, Models, by_context
from core.listening.recipes import Recipes, logits_kept, temperatures_of

__all__ = ["Kept", "Listening", "Live", "Models", "Recipes", "by_context", "logits_kept", "temperatures_of"]
