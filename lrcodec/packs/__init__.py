"""Model packs: what they hold, and where they are found."""
