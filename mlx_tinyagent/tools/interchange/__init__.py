"""Files that other programs read and write: iCalendar, vCard, Maildir and Markdown notes.

``read`` turns one file into plain records, ``load`` puts them into the local
store, ``save`` writes the store out again. What a record's file said and the
store has no place for is kept verbatim and written back.
"""
