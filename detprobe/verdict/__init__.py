"""Is it my change or the randomness? The statistics and the rule of a verdict, on plain numbers."""
