"""Journeys of orders through the whole system, in good times and while its parts die."""
