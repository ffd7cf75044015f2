"""A desk over a tiny model, for the tests of the page and of what stands behind it."""

from pathlib import Path

from instructedit.app.functions import Functions
from instructedit.app.pair import Pair
from instructedit.app.request import Form
from instructedit.app.session import Desk
from instructedit.backbone import Backbone
from tiny_editors import tiny_editor

EVIL = "<script>alert(1)</script> ${2*3} {{4*5}}"
FRANCE = Form("The capital of France is", "Rome")


def tiny_pair(backbone: Backbone, name: str = "tiny") -> Pair:
    """An untrained editor: it descends, so that edits show."""
    return Pair(name, backbone, tiny_editor(backbone))


def tiny_functions(pair: Pair, store: Path | None = None) -> Functions:
    """The functions over a desk of one editor; whoever calls closes the desk."""
    return Functions(Desk(lambda _name: pair, [pair.name], store))
