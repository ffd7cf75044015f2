"""All edits in force as one LoRA folder in a zip, without the server's paths in it."""

import tempfile
import zipfile
from pathlib import Path

from instructedit.app.book import Book
from instructedit.app.cleaning import hide_known
from instructedit.app.work import Work
from instructedit.errors import DataError
from instructedit.export import save_lora
from instructedit.ledger.store import Store

TEXTS = (".json", ".md")


def write_adapter(book: Book, out: Path, work: Work) -> Path:
    """Write the zip of the PEFT folder, which was loaded back and compared before.

    A base model that lies in a folder of the server is named by the folder's last part.
    Errors: `DataError` when no edit is in force; as `save_lora`.
    """
    backbone = book.pair.backbone
    with book.pair.at_work(work), tempfile.TemporaryDirectory(dir=out.parent) as place:
        store = Store(book.folder)  # as it is once the others are done
        work.step(0, 2, "Putting the edits in force together")
        delta = book.pair.solve(store)
        if delta is None:
            raise DataError("no edit is in force, so there is nothing to download. Make an edit first.")
        work.step(1, 2, "Writing the adapter and loading it back")
        folder = Path(place) / "lora"
        save_lora(delta, folder, backbone, cases=[entry.case for entry in store.in_force])
        whole = Path(place) / out.name
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                if path.suffix in TEXTS:
                    archive.writestr(
                        path.name, hide_known(path.read_text(encoding="utf-8"), book.pair.folders)
                    )
                else:
                    archive.write(path, path.name)
        whole.replace(out)
    return out
