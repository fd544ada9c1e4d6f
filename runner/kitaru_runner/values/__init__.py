"""Values as bytes, and back. Imports the journal's words alone."""
