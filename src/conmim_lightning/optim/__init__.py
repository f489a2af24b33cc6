"""Schedules, parameter groups and their wiring to an optimizer."""
