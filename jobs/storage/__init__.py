"""The bucket, and the pictures that go into it."""
