"""Questions about documents from the shell: one reading, one adaptation, streamed answers."""
