"""What must outlast a restart: operators' settings, personas made on the admin page."""
