"""Images that are really built, installed into and booted."""
