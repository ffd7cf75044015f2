"""The frozen language model: loading, edit sites, and the cut between prefix and edited top."""

from instructedit.backbone.backbone import Backbone
from instructedit.backbone.parts import Site, Text, like_length
from instructedit.backbone.prefix_cache import PrefixCache

__all__ = ["Backbone", "PrefixCache", "Site", "Text", "like_length"]
