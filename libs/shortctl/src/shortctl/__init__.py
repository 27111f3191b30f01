"""The shortctl command: development stack, administration, import and export."""
