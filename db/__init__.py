"""Tables, session, named queries and migrations. No DICOM, no network.

Rows stay in this room: every query takes a `db.session.Session` and answers with a frozen record of `db.records`.
"""
