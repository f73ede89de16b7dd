"""What Ray costs and gives: datasets by actors against plain processes, and ways of batching in Serve (docs/ray.md)."""
