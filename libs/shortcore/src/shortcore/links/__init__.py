"""What a link is: its record, its code, its target."""
