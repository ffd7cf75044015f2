"""`instructedit store`: the record of edits, one short file a command."""
