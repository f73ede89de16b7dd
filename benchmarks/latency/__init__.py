"""How long calls take, how close they come to the machine's limit, and what a time limit does to the ranking."""
