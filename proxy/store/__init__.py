"""What must outlast a restart: operators' settings, personas and client keys, and the ledger of what calls took."""
