"""Rules that choose which patches the student must not see; they know no image."""
