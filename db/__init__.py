"""Tables, session, named queries and migrations. No DICOM, no network.

Rows stay in this room: every query takes a `db.engine.session.Session` and returns a frozen record of `db.records`.
"""
