"""A job as one file that travels between installations: a zip with a manifest of hashes."""

from core.bundles.example import example_bundle
from core.bundles.packing import Packed, export_bundle
from core.bundles.unpacking import import_bundle

__all__ = ["Packed", "example_bundle", "export_bundle", "import_bundle"]
