"""How a text becomes the words that are compared: one normaliser by name and language, which stamps what it counted."""

from core.normalisers.choice import KINDS, Normaliser, normaliser_of, normaliser_stamped, note_on
from core.normalisers.words import Words

__all__ = ["KINDS", "Normaliser", "Words", "normaliser_of", "normaliser_stamped", "note_on"]
