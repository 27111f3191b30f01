"""Links: create, read, edit, delete, restore, list."""
