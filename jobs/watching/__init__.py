"""The farm at one moment, looked at again and again at a cost that has a bound."""
