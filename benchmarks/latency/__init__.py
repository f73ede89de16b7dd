"""How long calls take, and how near they come to the machine's limit."""
