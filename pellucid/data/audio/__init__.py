"""Sounds: what reads WAV files and makes them into log-mel spectrograms (floor 4)."""
