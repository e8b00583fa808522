"""Views: what resources look like outside, whichever way they are asked for."""
