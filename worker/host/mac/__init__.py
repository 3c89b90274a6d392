"""What a Mac tells of itself, each by a program that every macOS has."""
