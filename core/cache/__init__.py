"""What teachers said, kept on disk and read by every job that asks the same.

    FOLDER/RECIPE/recipe.json                what was computed, by which weights, with which settings
    FOLDER/RECIPE/SHARD.safetensors, .json   the answers about some utterances, and which those are

A recipe names the teacher's weights and everything that changes an answer: features, context, prompt. It names neither
batch size nor machine. A shard is published whole or not at all, so that a job that was killed goes on where it was;
one that was damaged later is noticed by its hash, thrown away and made again.
"""

from core.cache.shelves import Cache, Entry, Recipe, Shelf, ShelfRecord, transcript_key, utterance_key

__all__ = ["Cache", "Entry", "Recipe", "Shelf", "ShelfRecord", "transcript_key", "utterance_key"]
