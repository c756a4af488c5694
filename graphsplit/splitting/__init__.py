"""From what the user asked to parts: requests, surgery, suggestions, crop files."""
