"""Every way in: C-STORE, STOW-RS and the watched folder end in the same examination and transaction."""
